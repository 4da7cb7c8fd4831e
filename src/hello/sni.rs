//! The `server_name` extension (RFC 6066 section 3): exactly one name, or a named refusal.
//!
//! The name decides where the flow goes, so nothing about it is guessed: two names are not resolved
//! by order, and a list that cannot be read to its end is not read at all.

use super::client_hello::ClientHello;
use super::fault::{Fault, shown};
use super::take::Take;
use crate::name::{NameError, Parsed, ServerName, Underscore};
use crate::reason::Reason;

/// The name and, when it was rewritten, how the device spelt it.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: ServerName,
    pub(super) note: Option<String>,
}

/// The one name of the hello.
pub(super) fn read(hello: &ClientHello<'_>, underscore: Underscore) -> Result<Named, Fault> {
    let Some(content) = hello.server_name else {
        return Err(missing("the ClientHello has no server_name extension"));
    };
    if hello.server_names() > 1 {
        return Err(Fault::new(
            Reason::NameAmbiguous,
            format!("the ClientHello has {} server_name extensions", hello.server_names()),
        ));
    }
    let sent = only_name(content)?;
    let as_sent = || format!("as sent: {}", shown(sent));
    match ServerName::parse(sent, underscore) {
        Ok(Parsed { name, rewritten }) => {
            let note = || format!("name was not in canonical form ({})", as_sent());
            Ok(Named { name, note: rewritten.then(note) })
        }
        Err(error @ NameError::IsAddress) => {
            Err(Fault::new(Reason::NameIsAddress, format!("{error} ({})", as_sent())))
        }
        Err(error) => Err(Fault::new(Reason::NameMalformed, format!("{error} ({})", as_sent()))),
    }
}

/// The bytes of the only entry, which must be a host name.
fn only_name(content: &[u8]) -> Result<&[u8], Fault> {
    if content.is_empty() {
        return Err(missing("the server_name extension is empty"));
    }
    let mut take = Take::new(content);
    let Some(list) = take.vector16().filter(|_| take.is_empty()) else {
        return Err(Fault::malformed("the list of server names does not fill its extension"));
    };
    if list.is_empty() {
        return Err(missing("the list of server names is empty"));
    }
    let mut list = Take::new(list);
    let first = host_name(&mut list)?;
    let mut count = 1;
    while !list.is_empty() {
        host_name(&mut list)?;
        count += 1;
    }
    if count > 1 {
        return Err(Fault::new(
            Reason::NameAmbiguous,
            format!("the server_name extension has {count} names, the first {}", shown(first)),
        ));
    }
    Ok(first)
}

/// RFC 6066 defines no other type than `host_name`, and says for none how long its entries are.
fn host_name<'a>(list: &mut Take<'a>) -> Result<&'a [u8], Fault> {
    match list.u8() {
        Some(HOST_NAME) => {
            list.vector16().ok_or_else(|| Fault::malformed("a server name is longer than its list"))
        }
        kind => Err(Fault::malformed(format!(
            "a server name has the unknown type {}",
            kind.unwrap_or_default()
        ))),
    }
}

fn missing(detail: &str) -> Fault {
    Fault::new(Reason::NameMissing, detail)
}

const HOST_NAME: u8 = 0;
