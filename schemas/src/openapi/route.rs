//! What one request of the API is: its path, its query, what it takes and answers. Which there are is `routes`'.

/// One query parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub meaning: &'static str,
    /// Its JSON type.
    pub kind: &'static str,
}

/// What is answered when all goes well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// One object of this shape.
    One(&'static str),
    /// A list of objects of this shape, in pages.
    Many(&'static str),
    /// Objects of the log, one a line, or as server-sent events when those are asked for.
    Stream(&'static str),
    /// This very document.
    Document,
}

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// `get`, `post` or `delete`.
    pub method: &'static str,
    /// Path with parameters in braces.
    pub path: &'static str,
    /// Name of the operation, unique.
    pub operation: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    /// Query parameters.
    pub query: &'static [Parameter],
    /// Shape of the body it takes.
    pub body: Option<&'static str>,
    /// What it answers.
    pub answer: Answer,
}

pub(super) const fn text(name: &'static str, meaning: &'static str) -> Parameter {
    Parameter {
        name,
        meaning,
        kind: "string",
    }
}

pub(super) const fn number(name: &'static str, meaning: &'static str) -> Parameter {
    Parameter {
        name,
        meaning,
        kind: "integer",
    }
}

pub(super) const fn flag(name: &'static str, meaning: &'static str) -> Parameter {
    Parameter {
        name,
        meaning,
        kind: "boolean",
    }
}

pub(super) const fn get(
    path: &'static str,
    operation: &'static str,
    summary: &'static str,
    answer: Answer,
) -> Route {
    Route {
        method: "get",
        path,
        operation,
        summary,
        query: &[],
        body: None,
        answer,
    }
}

pub(super) const fn post(
    path: &'static str,
    operation: &'static str,
    summary: &'static str,
    body: Option<&'static str>,
    answer: &'static str,
) -> Route {
    Route {
        method: "post",
        path,
        operation,
        summary,
        query: &[],
        body,
        answer: Answer::One(answer),
    }
}

impl Route {
    pub(super) const fn asked(mut self, query: &'static [Parameter]) -> Self {
        self.query = query;
        self
    }
}
