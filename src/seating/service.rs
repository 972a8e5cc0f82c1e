//! [`Seating`]: all performances of all sales.

use std::{collections::HashMap, sync::Arc};

use futures_util::future::try_join_all;

use crate::{
    kernel::{HoldId, PerformanceId, SaleId, Subject},
    seating::{
        background,
        hold::{Hold, ReleaseOutcome, SeatingError},
        performance::Performance,
        plan::Plan,
        types::{Config, Deps, OpenError},
    },
};

/// All performances of all sales. Opened once at start; the set never changes.
pub struct Seating {
    /// In the order of the configuration.
    performances: Vec<Arc<Performance>>,
    by_id: HashMap<(SaleId, PerformanceId), Arc<Performance>>,
}

impl Seating {
    /// Opens every performance with all seats free, and starts the expiry and publishing tasks.
    ///
    /// What the ledger knows must then be applied with [`Performance::restore`].
    ///
    /// # Errors
    /// When a performance is named twice, or a price zone of its plan has no usable price.
    pub async fn open(performances: Vec<(Config, Arc<Plan>)>, deps: Deps) -> Result<Arc<Self>, OpenError> {
        let mut seating = Self {
            performances: Vec::new(),
            by_id: HashMap::new(),
        };
        for (config, plan) in performances {
            let performance = Arc::new(Performance::open(config, plan, &deps).await?);
            let config = performance.config();
            let key = (config.sale.clone(), config.performance.clone());
            if seating
                .by_id
                .insert(key.clone(), Arc::clone(&performance))
                .is_some()
            {
                return Err(OpenError::DuplicatePerformance {
                    sale: key.0,
                    performance: key.1,
                });
            }
            seating.performances.push(performance);
        }
        background::start(&seating.performances, &deps.lifecycle);
        Ok(Arc::new(seating))
    }

    /// The performance with this id, if it is configured.
    pub fn performance(&self, sale: &SaleId, id: &PerformanceId) -> Option<Arc<Performance>> {
        self.by_id.get(&(sale.clone(), id.clone())).cloned()
    }

    /// The performances of one sale, in the order of the configuration.
    pub fn performances(&self, sale: &SaleId) -> Vec<Arc<Performance>> {
        self.performances
            .iter()
            .filter(|performance| performance.config().sale == *sale)
            .cloned()
            .collect()
    }

    /// The performances of all sales, in the order of the configuration.
    pub fn all_performances(&self) -> &[Arc<Performance>] {
        &self.performances
    }

    /// The live hold with this id, with its performance. `None` also when another subject owns the hold.
    ///
    /// # Errors
    /// When a store did not answer and no other one has the hold: it may exist.
    pub async fn find_hold(
        &self,
        id: HoldId,
        subject: &Subject,
    ) -> Result<Option<(Arc<Performance>, Hold)>, SeatingError> {
        // A hold id does not name its performance, so every store is asked; one that fails must not hide a
        // hit.
        let mut failure = None;
        for performance in &self.performances {
            match performance.find_hold(id, subject).await {
                Ok(None) => {}
                Ok(Some(hold)) => return Ok(Some((Arc::clone(performance), hold))),
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(None), Err)
    }

    /// The subject's live holds of one sale, or of all, in the order of the configuration.
    ///
    /// # Errors
    /// When a store did not answer: a hold that is not listed may exist.
    pub async fn holds_of(
        &self,
        subject: &Subject,
        sale: Option<&str>,
    ) -> Result<Vec<(Arc<Performance>, Hold)>, SeatingError> {
        let is_wanted = |performance: &&Arc<Performance>| {
            sale.is_none_or(|sale| performance.config().sale.as_str() == sale)
        };
        let asked = self
            .performances
            .iter()
            .filter(is_wanted)
            .map(async |performance| {
                let holds = performance.holds_of(subject).await?;
                let of_performance = holds.into_iter().map(|hold| (Arc::clone(performance), hold));
                Ok::<_, SeatingError>(of_performance)
            });
        Ok(try_join_all(asked).await?.into_iter().flatten().collect())
    }

    /// Ends the hold if `subject` owns it and no checkout has it. Its seats become free.
    ///
    /// # Errors
    /// When a store did not answer and no other one has the hold: it may exist.
    pub async fn release(&self, id: HoldId, subject: &Subject) -> Result<ReleaseOutcome, SeatingError> {
        let mut failure = None;
        for performance in &self.performances {
            match performance.release(id, subject).await {
                Ok(ReleaseOutcome::Gone) => {}
                Ok(released) => return Ok(released),
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(ReleaseOutcome::Gone), Err)
    }
}
