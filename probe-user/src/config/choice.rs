//! Values that are one of a few words.

use schemars::Schema;

use super::{
    alert::AlertFormat,
    daemon::OnExit,
    http::{HttpMethod, HttpVersion},
    values::{Written, words},
};
use crate::fact::{ContainerEngine, DatabaseRole, HookEvent, OnCleanExit, Response, Severity};

impl Written for Severity {
    const EXPECTED: &'static str = r#""info", "warning" or "critical""#;

    fn read(text: &str) -> Option<Self> {
        [Self::Info, Self::Warning, Self::Critical].into_iter().find(|severity| severity.as_str() == text)
    }

    fn schema() -> Schema {
        words(&["info", "warning", "critical"])
    }
}

impl Written for DatabaseRole {
    const EXPECTED: &'static str = r#""primary" or "replica""#;

    fn read(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }

    fn schema() -> Schema {
        words(&Self::ALL.map(Self::as_str))
    }
}

impl Written for ContainerEngine {
    const EXPECTED: &'static str = r#""docker" or "podman""#;

    fn read(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|engine| engine.as_str() == text)
    }

    fn schema() -> Schema {
        words(&Self::ALL.map(Self::as_str))
    }
}

impl Written for Response {
    const EXPECTED: &'static str = r#""ignore", "alert" or "restart""#;

    fn read(text: &str) -> Option<Self> {
        match text {
            "ignore" => Some(Self::Ignore),
            "alert" => Some(Self::Alert),
            "restart" => Some(Self::Restart),
            _ => None,
        }
    }

    fn schema() -> Schema {
        words(&["ignore", "alert", "restart"])
    }
}

impl Written for OnCleanExit {
    const EXPECTED: &'static str = r#""always" or "never""#;

    fn read(text: &str) -> Option<Self> {
        match text {
            "always" => Some(Self::Always),
            "never" => Some(Self::Never),
            _ => None,
        }
    }

    fn schema() -> Schema {
        words(&["always", "never"])
    }
}

impl Written for OnExit {
    const EXPECTED: &'static str = r#""leave" or "stop""#;

    fn read(text: &str) -> Option<Self> {
        match text {
            "leave" => Some(Self::Leave),
            "stop" => Some(Self::Stop),
            _ => None,
        }
    }

    fn schema() -> Schema {
        words(&["leave", "stop"])
    }
}

impl Written for HttpMethod {
    const EXPECTED: &'static str = r#""GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH" or "DELETE""#;

    fn read(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == text)
    }

    fn schema() -> Schema {
        words(&Self::ALL.map(Self::as_str))
    }
}

impl Written for HttpVersion {
    const EXPECTED: &'static str = r#""auto", "1.1" or "2""#;

    fn read(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == text)
    }

    fn schema() -> Schema {
        words(&Self::ALL.map(Self::as_str))
    }
}

impl Written for HookEvent {
    const EXPECTED: &'static str =
        r#""incident.open", "incident.resolve", "restart.before" or "restart.after""#;

    fn read(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.as_str() == text)
    }

    fn schema() -> Schema {
        words(&Self::ALL.map(Self::as_str))
    }
}

impl Written for AlertFormat {
    const EXPECTED: &'static str = r#""json" or "alertmanager""#;

    /// Of those that a webhook has. The others have addresses of their own.
    fn read(text: &str) -> Option<Self> {
        [Self::Json, Self::Alertmanager].into_iter().find(|format| format.as_str() == text)
    }

    fn schema() -> Schema {
        words(&["json", "alertmanager"])
    }
}
