//! Why a receiver cannot be set up.

#[derive(Debug, thiserror::Error)]
pub enum AlertError {
    #[error("the alert webhook {webhook} is not a URL: {reason}; it has to be like https://host/path")]
    Webhook {
        /// The webhook without its secrets.
        webhook: String,
        reason: String,
    },
    #[error("no client for alerts to {receiver}: {reason}; are the system's CA certificates installed?")]
    Client {
        /// Scheme and host.
        receiver: String,
        reason: String,
    },
}
