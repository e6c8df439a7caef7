//! A router's page and API as somebody else reaches them, beside the browser.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::browser::{Answer, request};

/// Where they are, and a token that is taken there.
pub(crate) struct Api {
    pub(crate) at: SocketAddr,
    pub(crate) token: String,
}

impl Api {
    /// The page's address.
    pub(crate) fn page(&self) -> String {
        format!("http://{}/", self.at)
    }

    /// A file of the page.
    pub(crate) fn file(&self, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        request(self.at, "GET", path, headers, "")
    }

    /// Asks the API, as somebody else with the token.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Answer> {
        let bearer = format!("Bearer {}", self.token);
        let mut all = vec![("Authorization", &*bearer)];
        all.extend(headers);
        request(self.at, method, &format!("/api/v1{path}"), &all, body)
    }

    /// A value of the model.
    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        let answer = self.ask("GET", path, &[], "")?;
        ensure!(answer.status == 200, "GET {path}: {} {}", answer.status, answer.body);
        serde_json::from_str(&answer.body).with_context(|| format!("GET {path}: {}", answer.body))
    }

    /// The configuration in force, and its ETag.
    pub(crate) fn configuration(&self) -> Result<(String, String)> {
        let answer = self.ask("GET", "/config", &[], "")?;
        let etag = answer.header("ETag").context("no ETag")?.to_owned();
        Ok((answer.body, etag))
    }

    /// Puts another configuration in force, as somebody else would; with `confirm` on trial for so many seconds.
    pub(crate) fn commit(&self, text: &str, confirm: Option<u64>) -> Result<()> {
        let (_, etag) = self.configuration()?;
        let kind = ("Content-Type", "application/toml");
        let put = self.ask("PUT", "/config", &[("If-Match", &etag), kind], text)?;
        ensure!(put.status == 200, "PUT: {} {}", put.status, put.body);
        let query = confirm.map(|seconds| format!("?confirm={seconds}")).unwrap_or_default();
        let done = self.ask("POST", &format!("/config/commit{query}"), &[], "")?;
        ensure!(done.status == 200, "commit: {} {}", done.status, done.body);
        Ok(())
    }
}
