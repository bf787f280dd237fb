//! The engine as it is, but for what a test has it do otherwise.
//!
//! What is passed on here is what these tests need; of the rest it is an engine that does not tell.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::id::ContainerId;
use keywheel_engine::port::PortError;
use keywheel_engine::port::container_host::{
    ContainerHost, ContainerRecord, EngineEvents, ExecOutcome,
};

/// What a test has an engine do otherwise: nothing, unless it says so.
#[async_trait]
pub trait Otherwise: Send + Sync {
    async fn list(&self, engine: &dyn ContainerHost) -> Result<Vec<ContainerRecord>, PortError> {
        engine.list().await
    }
    async fn inspect(
        &self,
        engine: &dyn ContainerHost,
        id: &ContainerId,
    ) -> Result<Option<ContainerRecord>, PortError> {
        engine.inspect(id).await
    }
    async fn restart(&self, engine: &dyn ContainerHost, id: &ContainerId) -> Result<(), PortError> {
        engine.restart(id).await
    }
    async fn pause(&self, engine: &dyn ContainerHost, id: &ContainerId) -> Result<(), PortError> {
        engine.pause(id).await
    }
}

/// An engine behind that.
pub struct Through<T> {
    engine: Arc<dyn ContainerHost>,
    way: T,
}

impl<T> Through<T> {
    pub fn new(engine: Arc<dyn ContainerHost>, way: T) -> Arc<Self> {
        Arc::new(Self { engine, way })
    }
}

impl<T> Deref for Through<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.way
    }
}

#[async_trait]
impl<T: Otherwise> ContainerHost for Through<T> {
    async fn list(&self) -> Result<Vec<ContainerRecord>, PortError> {
        self.way.list(&*self.engine).await
    }
    async fn inspect(&self, id: &ContainerId) -> Result<Option<ContainerRecord>, PortError> {
        self.way.inspect(&*self.engine, id).await
    }
    async fn inspect_during_create(
        &self,
        id: &ContainerId,
        budget: Duration,
    ) -> Result<Option<ContainerRecord>, PortError> {
        self.engine.inspect_during_create(id, budget).await
    }
    async fn restart(&self, id: &ContainerId) -> Result<(), PortError> {
        self.way.restart(&*self.engine, id).await
    }
    async fn stop(&self, id: &ContainerId) -> Result<(), PortError> {
        self.engine.stop(id).await
    }
    async fn pause(&self, id: &ContainerId) -> Result<(), PortError> {
        self.way.pause(&*self.engine, id).await
    }
    async fn disconnect(&self, id: &ContainerId) -> Result<(), PortError> {
        self.engine.disconnect(id).await
    }
    async fn exec(
        &self,
        id: &ContainerId,
        argv: &[String],
        timeout: Duration,
    ) -> Result<ExecOutcome, PortError> {
        self.engine.exec(id, argv, timeout).await
    }
    async fn start(&self, id: &ContainerId) -> Result<(), PortError> {
        self.engine.start(id).await
    }
    async fn refused(&self) -> Result<Vec<ContainerRecord>, PortError> {
        self.engine.refused().await
    }
    async fn events(&self) -> Result<Box<dyn EngineEvents>, PortError> {
        self.engine.events().await
    }
    async fn ping(&self) -> Result<(), PortError> {
        self.engine.ping().await
    }
}
