//! Tenants as their people see them: who I am and where I am, and a tenant's name for what is written about it.

mod routes;
mod store;

pub use routes::router;
pub use store::{find, names, people};
