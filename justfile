# Every command of the project. `just` lists them; `scripts/tool just` installs it.

# List the commands
default:
    @just --list --unsorted

# Search in one minute: sample data, three searches, a server to try
demo *ARGS:
    cargo run --release --bin brainy -- demo {{ARGS}}

# Unit, conformance, property, crash and black-box tests; S3 tests say that they were skipped
test *ARGS:
    cargo test {{ARGS}}

# The property tests, with fresh cases each time: just properties 5
properties TIMES="3":
    for _ in $(seq {{TIMES}}); do \
        cargo test --lib --test filters --test http_api --test golden || exit 1; \
    done

# Format the code
fmt:
    cargo fmt

# Formatting and clippy, warnings are errors and the export
lint:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings
    cargo clippy --all-targets --features otlp -- -D warnings

# The export to an OpenTelemetry collector; builds the crate with it
otlp:
    cargo test --features otlp --test otlp

# API documentation, warnings are errors
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

# Licences, bans and sources of every dependency
deny:
    "$(scripts/tool cargo-deny)" check bans licenses sources

# The engine under faults, one seed after another: just sim --seeds 200
sim *ARGS:
    cargo test --test simulation -- {{ARGS}}

# The same for ten minutes, with seeds that nobody has met
sim-long MINUTES="10":
    cargo test --test simulation -- --minutes {{MINUTES}}

# Every deliberately broken build, and the seed that catches it
sim-defects:
    cargo test --test simulation -- --defects

# The membership of 1,000 instances for an hour, and of thousands of readers for minutes
sim-membership *ARGS:
    cargo test --release --test membership -- --ignored --nocapture {{ARGS}}

# Every fuzz target for so many seconds (nightly toolchain)
fuzz SECONDS="60":
    scripts/fuzz {{SECONDS}}

# Start all S3 servers that are installed; `just servers stop` ends them
servers ACTION="start":
    for name in seaweedfs ministack minio; do scripts/s3-server {{ACTION}} $name; done

# The S3 suite and the black-box flows on one server: just s3 seaweedfs
s3 NAME="seaweedfs":
    scripts/s3-server with {{NAME}} cargo test --test s3 --test blackbox

# Nodes killed, stopped and cut off from the bucket, on one server: just cluster seaweedfs
cluster NAME="seaweedfs":
    scripts/s3-server with {{NAME}} cargo test --test cluster

# Vectors per second and dollars per million, against LanceDB on one S3 server
bench-ingest *ARGS:
    benches/ingest.py {{ARGS}}

# The index against its peers: just bench-kernel --data DIR --metric cosine
bench-kernel *ARGS:
    benches/kernel.py {{ARGS}}

# What is served over HTTP, against Chroma and LanceDB: just bench-peers --rounds 5
bench-peers *ARGS:
    benches/serve.py peers {{ARGS}}

# Every answer checked while rows are replaced and deleted; p50 and p99 with and without that
bench-churn *ARGS:
    benches/serve.py churn {{ARGS}}

# The rest over HTTP: just bench-serve filters|parts|tail|ingest-to-compacted|upserts|millions
bench-serve *ARGS:
    benches/serve.py {{ARGS}}

# The bytes of a filter index, and filters by it and by each row's JSON
bench-filter *ARGS:
    cargo bench --bench filter_index -- {{ARGS}}

# Share of log PUTs that lose their race at 1, 2, 4 and 8 writers
bench-contention *ARGS:
    cargo bench --bench contention -- {{ARGS}}

# Whether an instance survives what single requests may ask of it (memory), and whether others notice (dear)
bench-limits *ARGS:
    cargo build --bin brainy
    benches/limits.py {{ARGS}}

# Whether an instance lives in a small container while more is imported than fits: as root
bench-memory *ARGS:
    cargo build --release --bin brainy
    benches/memory.py {{ARGS}}

# How much memory a merge or a split takes that is larger than the memory there is: as root
bench-merge-memory *ARGS:
    cargo build --release --bin brainy
    benches/merge_memory.py {{ARGS}}

# Ten minutes of mixed load with kills, checked against a model outside: just soak, or behind scripts/s3-server
soak *ARGS:
    benches/soak.py {{ARGS}}

# p50 and p99 of a search of an empty collection at 1 and 32 connections
bench-http *ARGS:
    benches/http_overhead.py {{ARGS}}

# Everything that CI runs, from a bare machine
ci *STAGES:
    .ci/run {{STAGES}}
