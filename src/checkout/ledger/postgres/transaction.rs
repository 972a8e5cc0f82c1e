//! Result and errors of a transaction's parts.

use std::time::Duration;

use crate::{checkout::ledger::port::LedgerError, platform::sql::TransactionError};

/// Timeout of reading all live claims, which happens only before a node serves.
pub(super) const BULK_TIMEOUT: Duration = Duration::from_mins(1);

/// Result of one part of a transaction.
pub(super) type TxResult<T> = Result<T, TransactionError<LedgerError>>;

impl From<LedgerError> for TransactionError<LedgerError> {
    fn from(error: LedgerError) -> Self {
        Self::Rejected(error)
    }
}

impl From<TransactionError<Self>> for LedgerError {
    fn from(trouble: TransactionError<Self>) -> Self {
        match trouble {
            TransactionError::Rejected(error) => error,
            TransactionError::Sql(error) => error.into(),
        }
    }
}
