//! A web server small enough to be read at a glance: the image of `cargo xtask demo`.
//!
//! It answers every request on port 80 with one page and prints a line for each. With `--greet TEXT` it
//! prints TEXT and ends, so that there is something to exec; with `--udp PORT` it answers datagrams instead.
#![forbid(unsafe_code)]

use std::io::{BufRead, BufReader, Result, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (option, value) = (args.next().unwrap_or_default(), args.next().unwrap_or_default());
    match option.as_str() {
        "--greet" => {
            println!("{value}");
            Ok(())
        }
        "--udp" => serve_datagrams(&value),
        _ => serve_pages(),
    }
}

fn serve_datagrams(port: &str) -> Result<()> {
    let socket = UdpSocket::bind(format!("0.0.0.0:{port}"))?;
    let mut question = [0; 512];
    loop {
        let (_, from) = socket.recv_from(&mut question)?;
        socket.send_to(b"answer", from)?;
    }
}

fn serve_pages() -> Result<()> {
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
