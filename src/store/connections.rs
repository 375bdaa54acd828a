//! Connections of measured guests, as a store keeps them: what is asked over one is counted here.

use uuid::Uuid;

use super::StoreError;
use crate::domain::connection::{Connection, FirstAnswer, Wanted};
use crate::domain::workload::WorkloadHead;
use crate::domain::{Name, Time};

/// What a release has to do with a connection; written with it, or not at all.
pub enum Link {
    /// Nothing: it is for a launch.
    None,
    /// It is for a launch, whose guest is given a connection.
    Opens(Box<Connection>),
    /// It is asked for over a connection. Where one of these was answered by now, the release is [`Changed`].
    ///
    /// [`Changed`]: super::Committed::Changed
    Over {
        /// The connection.
        connection: Uuid,
        /// What is answered for the first time.
        answers: Vec<FirstAnswer>,
    },
}

impl Link {
    /// The connection that is asked over.
    #[must_use]
    pub fn over(&self) -> Option<Uuid> {
        match self {
            Self::Over { connection, .. } => Some(*connection),
            Self::None | Self::Opens(_) => None,
        }
    }
}

/// See the module.
pub trait Connections: Send + Sync {
    /// What a launch's workload is chosen by, of an owner's workloads with these names, in the same order; one that is not
    /// there is left out. Nothing else of them is read: anybody may ask.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn workload_heads(&self, owner: &Name, names: &[Name]) -> Result<Vec<WorkloadHead>, StoreError>;

    /// The name of an owner's workload.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn workload_name(&self, owner: &Name, uuid: Uuid) -> Result<Option<Name>, StoreError>;

    /// A connection, if there is one of this id (not the client's) that has not expired.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn connection(&self, id: Uuid, now: Time) -> Result<Option<Connection>, StoreError>;

    /// Takes one request from a connection, durable before it is looked at; whether one was left.
    ///
    /// # Errors
    /// When the store fails; then it may be taken or not.
    fn take_request(&self, connection: Uuid, now: Time) -> Result<bool, StoreError>;

    /// What was answered first for the GUID and id of each of these, in the same order.
    ///
    /// # Errors
    /// When the store fails, or what is stored is damaged.
    fn first_answers(
        &self,
        connection: Uuid,
        wanted: &[Wanted],
    ) -> Result<Vec<Option<FirstAnswer>>, StoreError>;
}
