//! Reads of one moment.

/// Reads that belong together.
pub trait Moments {
    /// Runs `reads`, in which this thread reads and changes nothing. What it reads is of one moment where one for each
    /// would be dearer; the first change ends that moment.
    fn together(&self, reads: &mut dyn FnMut());
}
