//! Reports: summaries built from events, droppable and rebuildable to equal content.
