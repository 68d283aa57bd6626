//! Why there is no TLS session, for people: what it means and what to do.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, OtherError, PeerIncompatible};

use super::{
    certificate::date,
    verify::{Expiry, OWN_AUTHORITY},
};

/// Completes "no TLS session with PEER: ".
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls has dozens of errors and adds more; its words serve"
)]
pub(in crate::probe) fn words(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(why) => format!("its certificate is refused: {}", of_certificate(why)),
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => OLD_VERSION.to_owned(),
        // Its answer is no record of TLS.
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the server speaks plain text, not TLS".to_owned()
        }
        Error::InvalidMessage(_) => format!(
            "what it sends is no TLS: it speaks another protocol there, or wants to be asked for TLS first ({error})"
        ),
        _ => error.to_string(),
    }
}

const OLD_VERSION: &str = "it takes neither TLS 1.2 nor 1.3, only an older version that is no longer safe; allow TLS 1.2 in the server";

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls has dozens of errors and adds more; its words serve"
)]
fn of_certificate(why: &CertificateError) -> String {
    let words = match why {
        CertificateError::UnknownIssuer => "no certificate that is trusted signs it",
        CertificateError::ExpiredContext { not_after, .. } => {
            let at = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(not_after.as_secs());
            return format!("it expired on {}", date(at));
        }
        CertificateError::Expired => "it has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "it is not valid yet",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another name"
        }
        CertificateError::Other(OtherError(other)) => match other.downcast_ref::<Expiry>() {
            Some(expiry) => return format!("{expiry} that signs it expired on {}", date(expiry.at)),
            None if other.to_string() == OWN_AUTHORITY => {
                "it is an authority's own and not trusted itself; add it to the host's store (update-ca-certificates) or name it by `ca_file`"
            }
            None => return why.to_string(),
        },
        _ => return why.to_string(),
    };
    words.to_owned()
}

/// What a server means by the alert with which it ends the handshake (RFC 8446, section 6.2; RFC 5246, section 7.2.2).
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the rest are alerts that only a fault of one side can cause"
)]
fn of_alert(alert: AlertDescription) -> String {
    let words = match alert {
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
            "it asks for a client's certificate; name one by `cert` and `key` of `tls`"
        }
        AlertDescription::UnrecognisedName => {
            "it has no site of the name that it is asked for; set `server_name` of `tls` to one that it has"
        }
        AlertDescription::ProtocolVersion => OLD_VERSION,
        AlertDescription::InsufficientSecurity => {
            "it wants stronger ciphers than the probe has; allow those of TLS 1.3 or ECDHE with AES-GCM in the server"
        }
        AlertDescription::HandshakeFailure => {
            "the server and the probe have no cipher, curve or kind of signature in common, or the server misses a client's certificate (`cert` and `key` of `tls`)"
        }
        AlertDescription::NoApplicationProtocol => {
            "it speaks none of the protocols that the probe offers (ALPN); for HTTP, set `http_version`"
        }
        AlertDescription::UnknownCA => {
            "it trusts no authority that signs the client's certificate; name another by `cert` and `key` of `tls`"
        }
        AlertDescription::CertificateExpired => {
            "it refuses the client's certificate as expired or not valid yet; renew that of `cert` of `tls`"
        }
        AlertDescription::CertificateRevoked => {
            "it refuses the client's certificate as revoked; name another by `cert` and `key` of `tls`"
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateUnobtainable => {
            "it refuses the client's certificate, or misses one; check `cert` and `key` of `tls`"
        }
        AlertDescription::AccessDenied => {
            "it knows the client's certificate and gives it no access; name another by `cert` and `key` of `tls`"
        }
        AlertDescription::UnknownPSKIdentity => {
            "it takes clients with a pre-shared key alone, which the probe lacks"
        }
        AlertDescription::EncryptedClientHelloRequired => {
            "it takes clients with Encrypted Client Hello alone, which the probe does not have"
        }
        AlertDescription::InternalError => "it reports an internal error of its own; look into its log",
        AlertDescription::CloseNotify | AlertDescription::UserCanceled => {
            "it ended the handshake without a reason; look into its log"
        }
        other => {
            return format!(
                "it does not accept the handshake (alert {}); look into its log, and for what changes the connection on the way",
                u8::from(other)
            );
        }
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_says_what_to_do() {
        for (alert, part) in [
            (AlertDescription::CertificateRequired, "name one by `cert` and `key`"),
            (AlertDescription::UnrecognisedName, "set `server_name`"),
            (AlertDescription::ProtocolVersion, "allow TLS 1.2 in the server"),
            (AlertDescription::HandshakeFailure, "no cipher, curve or kind of signature in common"),
            (AlertDescription::UnknownCA, "name another by `cert` and `key`"),
            (AlertDescription::NoApplicationProtocol, "(ALPN)"),
            (AlertDescription::BadCertificate, "check `cert` and `key`"),
            (AlertDescription::DecodeError, "(alert 50)"),
            (AlertDescription::Unknown(200), "(alert 200)"),
        ] {
            let words = words(&Error::AlertReceived(alert));
            assert!(words.contains(part), "{alert:?}: {words}");
            assert!(!words.contains(&format!("{alert:?}")), "{words}");
        }
    }

    #[test]
    fn an_old_server_and_one_without_tls_are_told_apart() {
        let old = Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13);
        assert!(words(&old).contains("neither TLS 1.2 nor 1.3"));
        let none = Error::InvalidMessage(InvalidMessage::InvalidContentType);
        assert_eq!(words(&none), "the server speaks plain text, not TLS");
        let garbled = Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge);
        assert!(words(&garbled).starts_with("what it sends is no TLS"));
    }
}
