//! In which form content is asked for, by the query and by `Accept`.

use axum::http::{HeaderMap, header};
use node::{DagScope, EntityBytes};
use serde::Deserialize;

use super::{CAR, RAW};
use crate::gateway::routing::IPNS_RECORD;

/// Parameters of the query that the specifications know.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Form {
    pub(super) format: Option<String>,
    pub(super) filename: Option<String>,
    pub(super) download: Option<String>,
    pub(super) dag_scope: Option<String>,
    pub(super) entity_bytes: Option<String>,
    pub(super) car_version: Option<String>,
    pub(super) car_order: Option<String>,
    pub(super) car_dups: Option<String>,
}

/// The form in which content is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Files and directories.
    Plain,
    /// The block as it is hashed.
    Raw,
    /// A file that is JSON, asked for by `format`: nothing is converted to it (IPIP-524), and who accepts JSON accepts more.
    Json,
    /// Blocks, one after the other.
    Car(Car),
    /// The signed record of a name.
    Record,
    /// One that this gateway does not have.
    Other,
}

/// What is asked of a CAR (trustless gateway specification, 2.2 and 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Car {
    pub(super) scope: DagScope,
    pub(super) bytes: Option<EntityBytes>,
    /// Nothing, where either will do.
    pub(super) dups: Option<bool>,
}

/// `format` in the query wins over `Accept` (IPIP-523). One that is empty is none, as Kubo has it.
pub(super) fn wanted(form: &Form, headers: &HeaderMap) -> Result<Wanted, String> {
    let accepts: Vec<_> = accepts(headers).collect();
    match form.format.as_deref() {
        None | Some("") => {}
        Some("raw") => return Ok(Wanted::Raw),
        Some("car") => {
            let accepted = accepts.iter().find(|(kind, _)| *kind == CAR);
            let parameters = accepted.map_or(&[][..], |(_, parameters)| parameters);
            return asked_of_car(form, parameters).map(Wanted::Car);
        }
        Some("json") => return Ok(Wanted::Json),
        Some("ipns-record") => return Ok(Wanted::Record),
        Some(_) => return Ok(Wanted::Other),
    }
    for (kind, parameters) in accepts {
        match kind {
            RAW => return Ok(Wanted::Raw),
            CAR => return asked_of_car(form, &parameters).map(Wanted::Car),
            IPNS_RECORD => return Ok(Wanted::Record),
            "application/x-tar" => return Ok(Wanted::Other),
            _ if kind.starts_with("application/vnd.ip") => return Ok(Wanted::Other),
            _ => {}
        }
    }
    Ok(Wanted::Plain)
}

/// Media types with their parameters, in the order in which they stand there.
fn accepts(headers: &HeaderMap) -> impl Iterator<Item = (&str, Vec<(&str, &str)>)> {
    let accepts = headers.get_all(header::ACCEPT).iter();
    let accepts = accepts.filter_map(|accept| accept.to_str().ok());
    accepts.flat_map(|accept| accept.split(',')).map(|accept| {
        let mut pieces = accept.split(';').map(str::trim);
        let kind = pieces.next().unwrap_or_default();
        let parameters = pieces.filter_map(|piece| piece.split_once('='));
        let parameters =
            parameters.map(|(key, value)| (key.trim(), value.trim().trim_matches('"')));
        (kind, parameters.collect())
    })
}

/// A parameter of the query wins over the same one of `Accept` (IPIP-523); the error says what is not understood.
fn asked_of_car(form: &Form, accept: &[(&str, &str)]) -> Result<Car, String> {
    let parameter = |key: &str, query: &Option<String>| {
        let accepted = accept.iter().find(|(name, _)| *name == key);
        let accepted = accepted.map(|(_, value)| (*value).to_owned());
        query.clone().or(accepted)
    };
    match parameter("version", &form.car_version).as_deref() {
        None | Some("" | "1") => {}
        Some(_) => return Err("only CAR version 1 is offered".to_owned()),
    }
    match parameter("order", &form.car_order).as_deref() {
        None | Some("" | "dfs" | "unk") => {}
        Some(_) => return Err("the order of a CAR is dfs or unk".to_owned()),
    }
    let dups = match parameter("dups", &form.car_dups).as_deref() {
        None | Some("") => None,
        Some("y") => Some(true),
        Some("n") => Some(false),
        Some(_) => return Err("dups of a CAR is y or n".to_owned()),
    };
    let bytes = form.entity_bytes.as_deref().map(str::parse).transpose()?;
    let scope = match form.dag_scope.as_deref() {
        Some("block") => DagScope::Block,
        Some("entity") => DagScope::Entity,
        // A range is of an entity (IPIP-402).
        None if bytes.is_some() => DagScope::Entity,
        None | Some("all") => DagScope::All,
        Some(_) => return Err("dag-scope is block, entity or all".to_owned()),
    };
    Ok(Car { scope, bytes, dups })
}

#[cfg(test)]
mod tests {
    use axum::extract::Query;
    use axum::http::Uri;

    use super::*;
    use crate::gateway::header_value;

    fn check(query: &str, accept: Option<&str>, expected: Result<Wanted, &str>) {
        let uri: Uri = format!("/x?{query}").parse().unwrap();
        let Query(form) = Query::<Form>::try_from_uri(&uri).unwrap();
        let mut headers = HeaderMap::new();
        if let Some(accept) = accept {
            headers.insert(header::ACCEPT, header_value(accept));
        }
        let found = wanted(&form, &headers);
        let found = found.as_ref().map_err(String::as_str);
        assert_eq!(found.copied(), expected, "{query} {accept:?}");
    }

    #[test]
    fn forms_are_asked_for_by_query_or_accept() {
        let all = Car {
            scope: DagScope::All,
            bytes: None,
            dups: None,
        };
        let car = |asked| Ok(Wanted::Car(asked));
        check("", None, Ok(Wanted::Plain));
        check("", Some("text/html,*/*;q=0.8"), Ok(Wanted::Plain));
        check("", Some("application/vnd.ipld.raw"), Ok(Wanted::Raw));
        check(
            "format=raw",
            Some("application/vnd.ipld.car"),
            Ok(Wanted::Raw),
        );
        check("format=tar", None, Ok(Wanted::Other));
        check("", Some("application/vnd.ipld.dag-json"), Ok(Wanted::Other));
        check("", Some("text/html, application/vnd.ipld.car"), car(all));
        let dups = |dups| Car {
            dups: Some(dups),
            ..all
        };
        check(
            "",
            Some("application/vnd.ipld.car; version=1; order=dfs; dups=n"),
            car(dups(false)),
        );
        check(
            "format=car&car-dups=n&car-order=unk",
            None,
            car(dups(false)),
        );
        // What an address says counts, and what it does not say `Accept` does.
        let accept = "text/html, application/vnd.ipld.car;dups=n;order=dfs";
        check("format=car&car-dups=y", Some(accept), car(dups(true)));
        check("car-dups=y", Some(accept), car(dups(true)));
        check("format=car", Some(accept), car(dups(false)));
        check("format=car", Some("application/vnd.ipld.raw"), car(all));
        check("format=", None, Ok(Wanted::Plain));
        check("format=", Some("application/vnd.ipld.raw"), Ok(Wanted::Raw));
        check("format=json", None, Ok(Wanted::Json));
        check("", Some("application/json, */*"), Ok(Wanted::Plain));
        let range = Car {
            scope: DagScope::Entity,
            bytes: Some("5:*".parse().unwrap()),
            ..all
        };
        check("format=car&entity-bytes=5%3A*", None, car(range));
        for (query, accept, why) in [
            (
                "format=car&car-version=2",
                None,
                "only CAR version 1 is offered",
            ),
            (
                "",
                Some("application/vnd.ipld.car;version=2"),
                "only CAR version 1 is offered",
            ),
            (
                "format=car&car-order=bfs",
                None,
                "the order of a CAR is dfs or unk",
            ),
            ("format=car&car-dups=maybe", None, "dups of a CAR is y or n"),
            (
                "format=car&dag-scope=most",
                None,
                "dag-scope is block, entity or all",
            ),
            (
                "format=car&entity-bytes=5",
                None,
                "entity-bytes is from:to, where to may be *",
            ),
        ] {
            check(query, accept, Err(why));
        }
    }
}
