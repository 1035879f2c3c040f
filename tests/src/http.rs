//! A small HTTP client: status, headers, bytes; a status that is not 2xx is an answer, not an error.

use std::time::Duration;

use serde_json::Value;

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        .build()
        .into()
}

fn answer(
    response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<Answer, ureq::Error> {
    let mut response = response?;
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.to_string(), value)
        })
        .collect();
    Ok(Answer {
        status: response.status().as_u16(),
        headers,
        body: response
            .body_mut()
            .with_config()
            .limit(64 << 20)
            .read_to_vec()?,
    })
}

/// `GET`, or the reason why nobody answers.
pub fn try_get(url: &str, headers: &[(&str, &str)]) -> Result<Answer, ureq::Error> {
    let mut request = agent().get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answer(request.call())
}

pub fn get_with(url: &str, headers: &[(&str, &str)]) -> Answer {
    try_get(url, headers).unwrap_or_else(|error| panic!("GET {url}: {error}"))
}

pub fn get(url: &str) -> Answer {
    get_with(url, &[])
}

pub fn head(url: &str) -> Answer {
    answer(agent().head(url).call()).unwrap_or_else(|error| panic!("HEAD {url}: {error}"))
}

/// Any request without a body.
pub fn request(method: &str, url: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(()).expect("a request");
    answer(agent().run(request)).unwrap_or_else(|error| panic!("{method} {url}: {error}"))
}

pub fn post(url: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let mut request = agent().post(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answer(request.send_json(body)).unwrap_or_else(|error| panic!("POST {url}: {error}"))
}

/// The signed record of a name, where this gateway has one.
pub fn record(viewer: &str, name: &str) -> Option<Vec<u8>> {
    let answer = get(&format!("{viewer}/routing/v1/ipns/{name}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    let kind = answer.header("content-type");
    (kind == Some("application/vnd.ipfs.ipns-record")).then_some(answer.body)
}
