//! The golden cases of `reconcile-fixtures/`.
