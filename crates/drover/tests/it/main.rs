//! The program as its users meet it. Needs nothing but the program.

mod faults;
mod works;
mod world;
