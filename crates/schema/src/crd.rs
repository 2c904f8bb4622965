//! A custom resource definition, checked and compiled.
