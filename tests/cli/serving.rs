//! Servers: the same answers over HTTP, clean ends, the demo, the doctor.

use super::{RECORDS, Ran, Store, brainy, fails, ok, ok_json, run, text};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A server, killed when the test ends.
pub struct Server {
    pub child: Child,
    pub url: String,
    /// What it printed before it was ready.
    said: Vec<String>,
}

/// What a server with these settings logs until it is stopped once it is ready.
fn logged(args: &[&str], variables: &[(&str, &str)]) -> String {
    let serve = ["serve", "--store", "memory:", "--listen", "127.0.0.1:0"];
    let mut command = brainy(&[&serve, args].concat());
    command.envs(variables.iter().copied()).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let status = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.err);
    ran.err
}

#[test]
fn the_role_and_each_name_from_elsewhere_are_logged_once() {
    let variables = [("CLUSTER_NODE_ROLE", "master"), ("CLUSTER_SEEDS", "a:1,b:1")];
    let log = logged(&[], &variables);
    for line in [
        "CLUSTER_NODE_ROLE is an alias of role",
        "CLUSTER_SEEDS is not needed: instances find each other",
        "role detected role=\"hybrid\" source=variable CLUSTER_NODE_ROLE",
    ] {
        assert_eq!(log.matches(line).count(), 1, "{line} in {log}");
    }
    let json = logged(&["--set", "log_format=json"], &[]);
    let lines = json.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
    let role = lines.into_iter().find(|line| line["message"] == "role detected").expect(&json);
    assert_eq!((&role["role"], &role["target"]), (&"hybrid".into(), &"brainy::role".into()));
}

#[test]
fn verbose_shows_the_role_where_the_level_would_not() {
    let quiet = ["--set", "log_level=error"];
    assert!(!logged(&quiet, &[]).contains("role detected"));
    let verbose = logged(&[&quiet[..], &["--set", "verbose=true"]].concat(), &[]);
    assert!(verbose.contains("role detected") && !verbose.contains("starting"), "{verbose}");
}

/// More than a pipe holds, and than the lines that wait for one.
const LINES_MANY: usize = 12_000;

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let args =
        ["serve", "--store", "memory:", "--listen", "127.0.0.1:0", "--set", "log_level=debug"];
    let mut command = brainy(&args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = Server::ready(command.spawn().unwrap());
    let unread = server.child.stderr.take().unwrap();
    let address = server.url.strip_prefix("http://").unwrap();
    let mut stream = BufReader::new(TcpStream::connect(address).unwrap());
    stream.get_ref().set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    for _ in 0..LINES_MANY {
        let head = format!("GET /nowhere HTTP/1.1\r\nhost: {address}\r\n\r\n");
        stream.get_mut().write_all(head.as_bytes()).unwrap();
        skip_answer(&mut stream);
    }
    server.signal("-TERM");
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    drop(unread);
}

/// Reads one answer of which the headers say how long it is.
fn skip_answer(stream: &mut impl BufRead) {
    let (mut line, mut length) = (String::new(), 0);
    while line != "\r\n" {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the server has hung up");
        if let Some(said) = line.strip_prefix("content-length: ") {
            length = said.trim().parse().unwrap();
        }
    }
    stream.read_exact(&mut vec![0; length]).unwrap();
}

#[cfg(not(feature = "otlp"))]
#[test]
fn a_build_that_cannot_export_says_so() {
    let set = "otlp_endpoint=http://127.0.0.1:4318";
    let err = fails(&["serve", "--store", "memory:", "--set", set], 2);
    assert!(err.contains("--features otlp"), "{err}");
}

#[test]
fn a_name_that_was_made_up_stays_with_the_data_folder() {
    let store = Store::new();
    let set = format!("data_dir={}", store.dir.path().join("data").display());
    logged(&["--set", &set], &[]);
    let kept = || std::fs::read_to_string(store.dir.path().join("data/instance-id")).unwrap();
    let first = kept();
    logged(&["--set", &set], &[]);
    assert_eq!(kept(), first);
}

impl Server {
    pub fn start(args: &[&str]) -> Self {
        let mut command = brainy(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        Server::ready(command.spawn().unwrap())
    }

    /// A process, once it listens.
    pub fn ready(mut child: Child) -> Self {
        let out = BufReader::new(child.stdout.take().unwrap());
        // From here on it is ended whatever happens.
        let mut server = Server { child, url: String::new(), said: Vec::new() };
        for line in out.lines() {
            let line = line.unwrap();
            if let Some(url) = line.strip_prefix("listening on ") {
                server.url = url.to_owned();
                return server;
            }
            server.said.push(line);
        }
        panic!("ended before it was ready: {:?}", server.said);
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_server_does_the_same_as_a_store_and_stops_when_asked() {
    let store = Store::new();
    let file = store.file("in.jsonl", RECORDS);
    let serve = ["serve", "--store", &store.url, "--listen", "127.0.0.1:0"];
    let mut server = Server::start(&serve);
    let (at, direct) = (["--url", &server.url], ["--store", &store.url]);
    ok(&[&["import", &file], &at[..]].concat());
    let exported = ok(&[&["export"], &at[..]].concat());
    assert_eq!(ok(&[&["export"], &direct[..]].concat()), exported);
    let search = ["search", "--id", "a", "-k", "1"];
    let results = |at: &[&str]| ok_json(&[&search[..], at].concat())["results"].clone();
    assert_eq!(results(&at), results(&direct));
    let err = fails(&[&["stats", "-c", "nothing"], &at[..]].concat(), 1);
    assert!(err.contains("(collection_not_found)"), "{err}");
    for signal in ["-TERM", "-INT"] {
        server.signal(signal);
        assert_eq!(server.child.wait().unwrap().code(), Some(0), "{signal}");
        server = Server::start(&serve);
    }
}

#[test]
fn the_demo_can_be_run_twice_on_one_folder() {
    let store = Store::new();
    let dir = store.dir.path().join("demo");
    let args = ["demo", "--once", "--dir", text(&dir)];
    let first = ok(&args);
    assert!(first.contains("Stored"), "{first}");
    assert_eq!(first.matches("RANK").count(), 3, "{first}");
    let second = ok(&args);
    assert!(second.contains("already has"), "{second}");
    let results = |out: &str| {
        let lines = out.lines().filter(|line| line.contains("domain="));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(results(&first).len(), 9, "{first}");
    assert_eq!(results(&first), results(&second));
    assert!(results(&first)[6..].iter().all(|line| line.contains("domain=product")), "{first}");
}

#[test]
fn the_demo_prints_calls_that_work() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("skipped: there is no curl on this machine");
        return;
    }
    let store = Store::new();
    let dir = store.dir.path().join("demo");
    let server = Server::start(&["demo", "--dir", text(&dir), "--listen", "127.0.0.1:0"]);
    let said = server.said.join("\n").replace("\\\n", " ");
    let calls: Vec<&str> = said.lines().filter(|line| line.trim().starts_with("curl")).collect();
    assert_eq!(calls.len(), 4, "{said}");
    for call in calls {
        let output = Command::new("sh").args(["-c", call]).env("NO_PROXY", "*").output();
        let answer = Ran::from(output.unwrap());
        let answer: Value = serde_json::from_str(&answer.out).expect(call);
        assert!(answer.get("error").is_none(), "{call}: {answer}");
    }
    let command = said.lines().find(|line| line.trim().starts_with("brainy search")).unwrap();
    let url = command.split_whitespace().skip_while(|word| *word != "--url").nth(1).unwrap();
    let found = run(&["search", "--url", url, "-c", "demo", "--text", "knee pain", "-k", "3"]);
    assert!(found.code == 0 && found.out.contains("3 results"), "{}{}", found.out, found.err);
}

#[test]
fn the_doctor_says_whether_a_store_is_safe() {
    let store = Store::new();
    std::fs::create_dir(store.dir.path().join("store")).unwrap();
    let report = ok_json(&["doctor", &store.url]);
    assert_eq!(report["safe"], true);
    assert!(report["checks"].as_array().unwrap().len() >= 6, "{report}");
    let table = ok(&["doctor", &store.url]);
    assert!(table.contains("race to update") && table.contains("P99 MS"), "{table}");
    fails(&["doctor", "gs://bucket"], 2);
}

/// What a server says that cannot start.
fn cannot_start(args: &[&str]) -> String {
    let ran =
        Ran::from(brainy(&[&["serve"], args].concat()).stdin(Stdio::null()).output().unwrap());
    assert_ne!(ran.code, 0, "{}", ran.err);
    ran.err
}

#[test]
fn a_port_that_is_taken_is_said_in_the_log_s_own_form_and_is_no_defect() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let text = cannot_start(&["--store", "memory:", "--listen", &address]);
    assert!(text.contains("(address_unavailable)") && text.contains("--listen"), "{text}");
    assert!(!text.contains("please report"), "{text}");
    for (args, code) in [
        (vec!["--store", "memory:", "--listen", &*address], "address_unavailable"),
        (vec!["--store", "memory:", "--set", "log_level=deubg"], "invalid_settings"),
    ] {
        let log = cannot_start(&[&args[..], &["--set", "log_format=json"]].concat());
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
        let last = lines.collect::<Vec<_>>().pop().expect("something was said");
        assert_eq!((&last["level"], &last["code"]), (&"ERROR".into(), &code.into()), "{log}");
    }
}

#[test]
fn a_machine_without_certificates_serves_a_folder_and_stops_at_once() {
    let store = Store::new();
    let mut command = brainy(&["serve", "--store", &store.url, "--listen", "127.0.0.1:0"]);
    command.env("SSL_CERT_FILE", "/nowhere/at.all").env("SSL_CERT_DIR", "/nowhere/at/all");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = Server::ready(command.spawn().unwrap());
    // A command without certificates reaches it, too.
    let mut list = brainy(&["collections", "list", "--url", &server.url]);
    list.env("SSL_CERT_FILE", "/nowhere/at.all").env("SSL_CERT_DIR", "/nowhere/at/all");
    let listed = Ran::from(list.output().unwrap());
    assert_eq!(listed.code, 0, "{}", listed.err);
    server.signal("-TERM");
    let mut said = String::new();
    server.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(server.child.wait().unwrap().code(), Some(0), "{said}");
    assert!(said.contains("ca-certificates") && !said.contains("were dropped"), "{said}");
}

#[test]
fn a_server_that_is_not_there_has_nothing_to_do_with_a_store() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let err = fails(&["collections", "list", "--url", &format!("http://{free}")], 1);
    assert!(err.contains("(server_unavailable)") && !err.contains("AWS"), "{err}");
}
