//! A session with a PostgreSQL server, which is closed in order when it is dropped.

use std::time::Duration;

use tokio::{sync::oneshot, task::JoinHandle};
use tokio_postgres::{Client, Config, Error, NoTls, SimpleQueryMessage, SimpleQueryRow};

use super::{
    startup::{Announced, Startup},
    usage,
};
use crate::{
    fact::{Holder, ServerUsage},
    probe::bounded::Bounded,
};

/// The longest close in order: a hung server does not read it.
const GOODBYE: Duration = Duration::from_secs(1);

/// A session that is logged in.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    /// What ended the connection, if something did. None once it was asked for.
    ended: Option<JoinHandle<Option<Error>>>,
    announced: Announced,
    /// A query has no answer yet.
    is_asking: bool,
    /// Dropped with the session, which gives the connection until [`GOODBYE`] to end.
    _open: oneshot::Sender<()>,
}

impl Session {
    /// Logs in over a stream that is connected.
    pub async fn open(config: &Config, stream: Bounded) -> Result<Self, Error> {
        let (stream, announced) = Startup::new(stream);
        let (client, connection) = config.connect_raw(stream, NoTls).await?;
        let (open, closed) = oneshot::channel::<()>();
        let ended = tokio::spawn(async move {
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                end = &mut connection => return end.err(),
                _ = closed => {}
            }
            // Without its client it closes in order and ends, unless it waits for an answer that does not come.
            tokio::time::timeout(GOODBYE, connection).await.ok().and_then(Result::err)
        });
        Ok(Self { client, ended: Some(ended), announced, is_asking: false, _open: open })
    }

    /// The rows of a query.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<SimpleQueryRow>, Error> {
        self.is_asking = true;
        let answer = self.client.simple_query(sql).await;
        self.is_asking = false;
        let messages = match answer {
            Ok(messages) => messages,
            // The error that ended the connection has more detail than the closed connection.
            Err(error) if error.is_closed() => return Err(self.end().await.unwrap_or(error)),
            Err(error) => return Err(error),
        };
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            // The enum may grow; nothing but rows is of interest.
            SimpleQueryMessage::CommandComplete(_) | SimpleQueryMessage::RowDescription(_) | _ => None,
        };
        Ok(messages.into_iter().filter_map(row).collect())
    }

    /// The process that the server announced at the login.
    pub fn announced(&self) -> Option<i32> {
        self.announced.process()
    }

    async fn end(&mut self) -> Option<Error> {
        let is_over = |ended: &mut JoinHandle<_>| ended.is_finished() || self.client.is_closed();
        self.ended.take_if(is_over)?.await.ok().flatten()
    }

    /// The largest holders of connections, as far as this session's user may see them.
    pub async fn holders(&mut self) -> Vec<Holder> {
        self.holders_by(&usage::holders_query()).await
    }

    /// The sessions that fit a condition, as holders of what others wait for.
    pub async fn holders_where(&mut self, condition: &str) -> Vec<Holder> {
        self.holders_by(&usage::sessions_query(condition)).await
    }

    async fn holders_by(&mut self, sql: &str) -> Vec<Holder> {
        let rows = self.query(sql).await;
        rows.map_or_else(|_| Vec::new(), |rows| rows.iter().map(usage::holder).collect())
    }

    /// The server's report of its connections; None if it does not answer any more.
    pub async fn usage(&mut self) -> Option<ServerUsage> {
        let connections = usage::connections(&self.query(usage::CONNECTIONS).await.ok()?);
        Some(ServerUsage { connections, holders: self.holders().await, ..ServerUsage::default() })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(ended) = self.ended.as_ref().filter(|_| self.is_asking) {
            // A pooler would give a server connection to a query that waits, although its probe has given up.
            ended.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// Let in, ready.
    const LET_IN: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";

    /// The end of a result without rows, ready.
    const DONE: &[u8] = b"C\0\0\0\x0dSELECT 0\0Z\0\0\0\x05I";

    #[tokio::test]
    async fn every_query_after_the_end_of_a_connection_fails() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            for answer in [LET_IN, DONE] {
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                stream.write_all(answer).await.unwrap();
            }
        };
        let mut config = Config::new();
        config.user("u");
        let ask = async {
            let mut session = Session::open(&config, Bounded::new(stream)).await.unwrap();
            assert_eq!(session.query("SELECT 1").await.unwrap().len(), 0);
            session
        };
        let ((), mut session) = tokio::join!(serve, ask);
        for _ in 0..3 {
            let error = session.query("SELECT 1").await.unwrap_err();
            assert!(error.is_closed() || error.to_string().contains("communicating"), "{error}");
        }
        assert_eq!(session.usage().await, None);
    }
}
