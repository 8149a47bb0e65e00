//! A session with the servers, and what their errors mean.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use scylla::{
    client::{execution_profile::ExecutionProfile, session::Session, session_builder::SessionBuilder},
    errors::{DbError, ExecutionError, RequestAttemptError},
    policies::{
        load_balancing::DefaultPolicy, retry::DefaultRetryPolicy,
        speculative_execution::SimpleSpeculativeExecutionPolicy,
    },
};

use super::{OpenError, Refusal, consistency, link};
use crate::config;

/// Connects without a keyspace. `patience`: for how long a statement may take.
///
/// # Errors
/// When no node answers.
pub async fn connect(config: &config::Scylla, patience: Duration) -> Result<Session, OpenError> {
    let read = consistency::parse(&config.read_consistency)?;
    let speculative = SimpleSpeculativeExecutionPolicy {
        max_retry_count: 1,
        retry_interval: Duration::from_millis(config.speculative_ms.max(1)),
    };
    let mut balancing = DefaultPolicy::builder().token_aware(true);
    if !config.datacenter.is_empty() {
        balancing = balancing.prefer_datacenter(config.datacenter.clone()).permit_dc_failover(false);
    }
    let profile = ExecutionProfile::builder()
        .consistency(read)
        .request_timeout(Some(patience))
        .retry_policy(Arc::new(DefaultRetryPolicy::new()))
        .load_balancing_policy(balancing.build())
        .speculative_execution_policy(Some(Arc::new(speculative)))
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(&config.nodes)
        .connection_timeout(Duration::from_secs(5))
        .keyspaces_to_fetch([config.keyspace.clone()])
        .default_execution_profile_handle(profile.into_handle());
    if !config.user.is_empty() {
        link::warn_of_plain_password(config);
        builder = builder.user(&config.user, &config.password);
    }
    let session = builder.tls_context(link::configuration(config)?).build().await.map_err(|error| {
        let nodes = config.nodes.join(", ");
        match Refusal::of(&error, config) {
            Some(refusal) => OpenError::Refused { nodes, refusal },
            None => OpenError::Connect { nodes, error: Box::new(error) },
        }
    })?;
    check_datacenter(&session, &config.datacenter)?;
    Ok(session)
}

/// Refuses a datacentre without a server: the driver would find none to ask, and call that an error of its own.
fn check_datacenter(session: &Session, wanted: &str) -> Result<(), OpenError> {
    let state = session.get_cluster_state();
    let known: BTreeSet<&str> =
        state.get_nodes_info().iter().filter_map(|node| node.datacenter.as_deref()).collect();
    if wanted.is_empty() || known.is_empty() || known.contains(wanted) {
        return Ok(());
    }
    let known = Vec::from_iter(known).join(", ");
    Err(OpenError::NoDatacenter { wanted: wanted.to_owned(), known })
}

/// Whether trying again can not help: the statement or the rights are wrong, not the moment.
pub fn is_final(error: &ExecutionError) -> bool {
    match error {
        ExecutionError::BadQuery(_) => true,
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, _)) => matches!(
            error,
            DbError::SyntaxError | DbError::Invalid | DbError::Unauthorized | DbError::ConfigError
        ),
        _ => false,
    }
}

/// How many servers a statement needs, where it failed because they are not there.
pub fn required(error: &ExecutionError) -> Option<usize> {
    match error {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(
            DbError::Unavailable { required, .. },
            _,
        )) => usize::try_from(*required).ok(),
        _ => None,
    }
}
