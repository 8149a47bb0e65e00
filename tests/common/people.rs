//! What people ask of a relay by REST (`/v1` on the clients' listener), as programs and as browsers.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{client::IntoClientRequest, handshake::client::Request};

use crate::{Client, PATIENCE, Relay};

/// A password that is none of the most used.
pub const PASSWORD: &str = "three rooks on a wire";

/// An answer of HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The values of a header.
    pub fn headers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        let pairs = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        pairs.filter(move |(its, _)| its.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn header(&self, name: &str) -> Option<String> {
        self.headers(name).next().map(str::to_owned)
    }

    /// The value of a cookie that is set.
    pub fn cookie(&self, name: &str) -> Option<String> {
        let pairs = self.headers("set-cookie").filter_map(|cookie| cookie.split(';').next()?.split_once('='));
        pairs.filter(|(its, _)| *its == name).map(|(_, value)| value.to_owned()).next()
    }

    /// The status, and the word that says which problem it is.
    pub fn problem(&self) -> (u16, String) {
        let kind = self.json()["type"].as_str().unwrap_or_default().to_owned();
        (self.status, kind.trim_start_matches("urn:rookery:problem:").to_owned())
    }
}

/// Asks an address for something; `headers` over those that every request has.
pub fn ask(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut head =
        format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head += &format!("Host: {address}\r\n");
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    // A relay that refuses a long body need not read all of it.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    assert!(!is_chunked, "{head}");
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// Somebody who is signed in, as a program is.
#[derive(Debug, Clone)]
pub struct Person {
    pub name: String,
    /// The public key, in hexadecimal digits.
    pub key: String,
    pub token: String,
}

impl Person {
    fn of(answer: &Answer) -> Self {
        let said = answer.json();
        let text = |name: &str| said[name].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned();
        Self { name: text("username"), key: text("userId"), token: text("token") }
    }

    /// Asks a relay for something as this person.
    pub fn ask(&self, relay: &Relay, method: &str, path: &str, body: Value) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        relay.program(method, path, &[("Authorization", &bearer)], body)
    }

    /// A WebSocket whose handshake shows the token.
    pub async fn connect(&self, relay: &Relay) -> Client {
        Client::connect(self.handshake(relay)).await
    }

    pub fn handshake(&self, relay: &Relay) -> Request {
        let mut request = relay.url().into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {}", self.token).parse().unwrap());
        request
    }
}

impl Relay {
    /// Asks as a program does, with JSON.
    pub fn program(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let headers = [headers, &[("Content-Type", "application/json")]].concat();
        ask(self.clients, method, path, &headers, body.as_bytes())
    }

    /// Asks as a page of this relay does in a browser.
    pub fn page(&self, method: &str, path: &str, cookie: &str, body: Value) -> Answer {
        let origin = format!("http://{}", self.clients);
        let mut headers = vec![("Origin", origin.as_str()), ("Sec-Fetch-Site", "same-origin")];
        if !cookie.is_empty() {
            headers.push(("Cookie", cookie));
        }
        self.program(method, path, &headers, body)
    }

    pub fn sign_up(&self, name: &str) -> Person {
        self.sign_up_with(name, json!({}))
    }

    /// Signs up, and says more.
    pub fn sign_up_with(&self, name: &str, more: Value) -> Person {
        let mut said = json!({ "username": name, "password": PASSWORD, "passwordConfirm": PASSWORD });
        said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = self.program("POST", "/v1/auth/sign-up", &[], said);
        assert_eq!(answer.status, 201, "{answer:?}");
        Person::of(&answer)
    }

    pub fn sign_in(&self, name: &str) -> Person {
        let answer = self.try_sign_in(name, PASSWORD);
        assert_eq!(answer.status, 200, "{answer:?}");
        Person::of(&answer)
    }

    pub fn try_sign_in(&self, name: &str, password: &str) -> Answer {
        self.program("POST", "/v1/auth/sign-in", &[], json!({ "username": name, "password": password }))
    }
}
