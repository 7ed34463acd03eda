//! A volume plugin of a daemon: Docker's plugin protocol at a socket, volumes as directories.

use crate::Daemon;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

/// A plugin that runs until it is dropped.
pub struct VolumePlugin {
    socket: PathBuf,
    state: Arc<State>,
    serving: Option<(UnixListener, JoinHandle<()>)>,
}

struct State {
    dir: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Users of each volume.
    volumes: BTreeMap<String, Vec<String>>,
    calls: Vec<(String, Value)>,
    failing: BTreeMap<String, String>,
}

impl VolumePlugin {
    /// A plugin of this name.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn start(daemon: &Daemon, name: &str) -> Result<Self> {
        let (sockets, dir) = (daemon.plugin_sockets(), daemon.dir().join(format!("volumes-of-{name}")));
        fs::create_dir_all(&sockets)?;
        fs::create_dir_all(&dir)?;
        let socket = sockets.join(format!("{name}.sock"));
        let state = Arc::new(State { dir, inner: Mutex::default() });
        let mut plugin = Self { socket, state, serving: None };
        plugin.listen()?;
        Ok(plugin)
    }

    /// Listens, again after [`Self::die`].
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn listen(&mut self) -> Result<()> {
        let _ = fs::remove_file(&self.socket);
        let listener = UnixListener::bind(&self.socket).context("the plugin's socket")?;
        let (state, accepting) = (Arc::clone(&self.state), listener.try_clone()?);
        let serve = move || {
            for stream in accepting.incoming().map_while(Result::ok) {
                // What a client does is its own affair.
                let _ = state.answer(stream);
            }
        };
        self.serving = Some((listener, std::thread::spawn(serve)));
        Ok(())
    }

    /// Nobody listens at the socket any more; the file stays.
    pub fn die(&mut self) {
        if let Some((listener, thread)) = self.serving.take() {
            // Whoever accepts is woken by it.
            let _ = rustix::net::shutdown(&listener, rustix::net::Shutdown::Both);
            let _ = thread.join();
        }
    }

    /// A method answers with this error from now on; none makes it work again.
    pub fn fail(&self, method: &str, error: Option<&str>) {
        let mut inner = self.state.inner();
        match error {
            Some(error) => drop(inner.failing.insert(method.into(), error.into())),
            None => drop(inner.failing.remove(method)),
        }
    }

    /// The methods that were called since this was asked last, with what was sent.
    pub fn calls(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.state.inner().calls)
    }

    /// Who has a volume mounted; `None` when there is none.
    pub fn users(&self, volume: &str) -> Option<Vec<String>> {
        self.state.inner().volumes.get(volume).cloned()
    }

    /// Where a volume's files are.
    pub fn files(&self, volume: &str) -> PathBuf {
        self.state.dir.join(volume)
    }
}

impl Drop for VolumePlugin {
    fn drop(&mut self) {
        self.die();
        let _ = fs::remove_file(&self.socket);
    }
}

impl State {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, stream: UnixStream) -> Result<()> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let path = line.split(' ').nth(1).unwrap_or("").trim_start_matches('/').to_owned();
        let mut length = 0;
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            match line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse()?
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let request: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let answer = self.call(&path, &request).to_string();
        write!(reader.get_mut(), "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len())?;
        Ok(())
    }

    fn call(&self, path: &str, request: &Value) -> Value {
        let mut inner = self.inner();
        inner.calls.push((path.to_owned(), request.clone()));
        if let Some(error) = inner.failing.get(path) {
            return json!({ "Err": error });
        }
        let name = request["Name"].as_str().unwrap_or("").to_owned();
        let place = self.dir.join(&name).display().to_string();
        let known = inner.volumes.contains_key(&name);
        let missing = json!({"Err": format!("no volume {name} here")});
        match path {
            "Plugin.Activate" => json!({"Implements": ["VolumeDriver"]}),
            "VolumeDriver.Capabilities" => json!({"Capabilities": {"Scope": "global"}}),
            "VolumeDriver.List" => {
                let volumes: Vec<Value> = inner.volumes.keys().map(|name| json!({"Name": name})).collect();
                json!({"Volumes": volumes})
            }
            "VolumeDriver.Create" => match fs::create_dir_all(&place) {
                Ok(()) => {
                    inner.volumes.insert(name, Vec::new());
                    json!({})
                }
                Err(error) => json!({"Err": error.to_string()}),
            },
            _ if !known => missing,
            "VolumeDriver.Get" => {
                json!({"Volume": {"Name": name, "Mountpoint": place, "Status": {"mood": "good"},
                "CreatedAt": "2026-01-02T03:04:05Z"}})
            }
            "VolumeDriver.Path" => json!({ "Mountpoint": place }),
            "VolumeDriver.Remove" => {
                inner.volumes.remove(&name);
                let _ = fs::remove_dir_all(&place);
                json!({})
            }
            "VolumeDriver.Mount" => {
                let id = request["ID"].as_str().unwrap_or("").to_owned();
                inner.volumes.entry(name).or_default().push(id);
                json!({ "Mountpoint": place })
            }
            "VolumeDriver.Unmount" => {
                let users = inner.volumes.entry(name).or_default();
                users.retain(|id| Some(id.as_str()) != request["ID"].as_str());
                json!({})
            }
            other => json!({"Err": format!("unknown method {other}")}),
        }
    }
}
