//! A web server small enough to be read at a glance: the image of `cargo xtask demo`.
//!
//! It answers every request on port 80 with one page and prints a line for each. With `--greet TEXT` it
//! prints TEXT and ends, so that there is something to exec.
#![forbid(unsafe_code)]

use std::io::{BufRead, BufReader, Result, Write};
use std::net::{TcpListener, TcpStream};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some("--greet") {
        println!("{}", args.next().unwrap_or_default());
        return Ok(());
    }
    let listener = TcpListener::bind("0.0.0.0:80")?;
    println!("hello-web listens on port 80");
    for stream in listener.incoming() {
        // A client that goes away is its own business.
        let _ = stream.and_then(answer);
    }
    Ok(())
}

fn answer(mut stream: TcpStream) -> Result<()> {
    let mut request = String::new();
    BufReader::new(&stream).read_line(&mut request)?;
    println!("{} asked: {}", stream.peer_addr()?, request.trim_end());
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let page = format!("<h1>Hello from container {}</h1>\n", host.trim_end());
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
        page.len()
    )
}
