//! Simulation: the independent reference model that the simulated world is judged by.

mod reference;
mod reference_attribution;
mod reference_demo;
mod reference_money;
mod reference_tests;
