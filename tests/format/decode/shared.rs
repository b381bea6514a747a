//! JSON objects: how fields are read, and the small objects that instances share.

use super::{Result, corrupt, ensure, newer};
use serde_json::{Map, Value};

/// An object with its place, for errors.
#[derive(Debug, Clone)]
pub struct Object<'a> {
    fields: &'a Map<String, Value>,
    place: String,
}

impl<'a> Object<'a> {
    pub fn of(value: &'a Value, place: &str) -> Result<Object<'a>> {
        match value.as_object() {
            Some(fields) => Ok(Object { fields, place: place.to_owned() }),
            None => corrupt(format!("{place}: not an object")),
        }
    }

    fn wrong<T>(&self, name: &str, wanted: &str) -> Result<T> {
        match self.fields.get(name) {
            Some(value) => corrupt(format!("{}: {name} is {value}, not {wanted}", self.place)),
            None => corrupt(format!("{}: {name} is missing", self.place)),
        }
    }

    /// A field, unless it is missing.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.fields.get(name)
    }

    /// No build may add fields here.
    pub fn closed(&self, names: &[&str]) -> Result<()> {
        let other = self.fields.keys().find(|name| !names.contains(&name.as_str()));
        ensure(other.is_none(), || format!("{}: there is no {other:?}", self.place))
    }

    pub fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    pub fn text(&self, name: &str) -> Result<&'a str> {
        self.get(name).and_then(Value::as_str).map_or_else(|| self.wrong(name, "a text"), Ok)
    }

    pub fn number(&self, name: &str) -> Result<u64> {
        self.get(name).and_then(Value::as_u64).map_or_else(|| self.wrong(name, "a number"), Ok)
    }

    pub fn array(&self, name: &str) -> Result<&'a [Value]> {
        match self.get(name).and_then(Value::as_array) {
            Some(array) => Ok(array),
            None => self.wrong(name, "an array"),
        }
    }

    pub fn texts(&self, name: &str) -> Result<Vec<String>> {
        let texts = self.array(name)?.iter().map(|text| text.as_str().map(str::to_owned));
        texts.collect::<Option<_>>().map_or_else(|| self.wrong(name, "texts"), Ok)
    }

    pub fn object(&self, name: &str) -> Result<Object<'a>> {
        match self.get(name) {
            Some(value) => Object::of(value, &format!("{}.{name}", self.place)),
            None => self.wrong(name, "an object"),
        }
    }

    pub fn objects(&self, name: &str) -> Result<Vec<Object<'a>>> {
        let place = |number| format!("{}.{name}[{number}]", self.place);
        let array = self.array(name)?.iter().enumerate();
        array.map(|(number, value)| Object::of(value, &place(number))).collect()
    }

    /// A pair of numbers, of which the second is not the lesser.
    pub fn range(&self, name: &str) -> Result<(u64, u64)> {
        let numbers: Option<Vec<u64>> = self.array(name)?.iter().map(Value::as_u64).collect();
        match numbers.as_deref() {
            Some([low, high]) if low <= high => Ok((*low, *high)),
            _ => self.wrong(name, "a range"),
        }
    }

    /// A field that may be missing, or null.
    pub fn maybe<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Object<'a>, &str) -> Result<T>,
    ) -> Result<Option<T>> {
        match self.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => read(self, name).map(Some),
        }
    }
}

pub fn parse(data: &[u8], what: &str) -> Result<Value> {
    serde_json::from_slice(data).or_else(|error| corrupt(format!("{what}: {error}")))
}

/// Checks the version of an object of which `known` is the newest that the document describes, and returns it.
pub fn check_version(object: &Object, known: u64) -> Result<u64> {
    let version = object.number("formatVersion")?;
    let reader = object.maybe("minReader", Object::number)?.unwrap_or(version);
    if version > known && reader > known {
        return newer(format!("{}: for readers of version {reader}", object.place));
    }
    ensure(version > 0, || format!("{}: version 0", object.place))?;
    Ok(version)
}

/// How an object that is replaced by compare-and-swap has changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Stamp {
    pub version: u64,
    pub updated: String,
    pub recent_writes: Vec<String>,
}

impl Stamp {
    pub fn decode(object: &Object) -> Result<Stamp> {
        let stamp = object.object("stamp")?;
        let recent_writes = stamp.texts("recentWrites")?;
        ensure(recent_writes.len() <= 64, || format!("{} recent writes", recent_writes.len()))?;
        let (version, updated) = (stamp.number("version")?, stamp.text("updated")?.to_owned());
        Ok(Stamp { version, updated, recent_writes })
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    pub stamp: Stamp,
    pub holder: Option<String>,
    pub epoch: u64,
    pub since: String,
    pub ttl_ms: u64,
}

pub fn decode_lease(data: &[u8]) -> Result<Lease> {
    let value = parse(data, "lease")?;
    let object = Object::of(&value, "lease")?;
    check_version(&object, 1)?;
    Ok(Lease {
        stamp: Stamp::decode(&object)?,
        holder: object.maybe("holder", Object::text)?.map(str::to_owned),
        epoch: object.number("epoch")?,
        since: object.text("since")?.to_owned(),
        ttl_ms: object.number("ttlMs")?,
    })
}

#[derive(Debug, Clone, PartialEq)]
pub struct State {
    pub stamp: Stamp,
    /// `None` in a tombstone.
    pub value: Option<Value>,
}

pub fn decode_state(data: &[u8]) -> Result<State> {
    let value = parse(data, "state")?;
    let object = Object::of(&value, "state")?;
    check_version(&object, 1)?;
    let deleted = object.get("deleted").and_then(Value::as_bool).unwrap_or(false);
    let Some(value) = object.get("value").cloned() else {
        return corrupt("state: value is missing");
    };
    ensure(!deleted || value.is_null(), || "state: a tombstone with a value".to_owned())?;
    Ok(State { stamp: Stamp::decode(&object)?, value: (!deleted).then_some(value) })
}

#[derive(Debug, Clone, PartialEq)]
pub struct SharedConfig {
    pub version: Option<u64>,
    /// The roles of the instances by their ids.
    pub roles: Vec<(String, String)>,
}

pub fn decode_config(data: &[u8]) -> Result<SharedConfig> {
    let value = parse(data, "shared config")?;
    let object = Object::of(&value, "shared config")?;
    if let Some(settings) = object.maybe("settings", Object::object)?
        && let Some(metric) = settings.maybe("distanceMetric", Object::text)?
    {
        ensure(["cosine", "euclidean", "dot"].contains(&metric), || format!("metric {metric}"))?;
    }
    let mut roles = Vec::new();
    if let Some(instances) = object.maybe("instances", Object::object)? {
        for id in instances.fields.keys() {
            roles.push((id.clone(), instances.object(id)?.text("role")?.to_owned()));
        }
    }
    Ok(SharedConfig { version: object.maybe("version", Object::number)?, roles })
}

#[derive(Debug, Clone, PartialEq)]
pub struct Heartbeat {
    pub replaces: Option<String>,
    pub role: String,
    pub session: Option<String>,
}

pub fn decode_heartbeat(data: &[u8]) -> Result<Heartbeat> {
    let value = parse(data, "heartbeat")?;
    let object = Object::of(&value, "heartbeat")?;
    let version = object.number("formatVersion")?;
    if version > 1 {
        return newer(format!("heartbeat: version {version}"));
    }
    let instance = object.object("instance")?;
    Ok(Heartbeat {
        replaces: object.maybe("replaces", Object::text)?.map(str::to_owned),
        role: instance.text("role")?.to_owned(),
        session: instance.maybe("session", Object::text)?.map(str::to_owned),
    })
}
