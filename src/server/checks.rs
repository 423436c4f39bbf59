//! What is checked before the first connection is accepted, and the sockets that are taken then.

use super::{
    builder::Server,
    options::{NamedRoute, ReadyRoute},
    routes::ServerContext,
};
use crate::{
    activation::ActivatedSocket,
    error::{Error, Kind},
    listener::ActivatedListener,
};

impl Server {
    /// Takes every socket and checks all there is to check before the first connection is accepted.
    pub(super) fn take(self) -> Result<(ServerContext, Vec<ReadyRoute>), Error> {
        let (context, limits) = (self.context(), self.limits.clone());
        if let [only] = &self.routes[..] {
            context.activated.name_unnamed(&only.name);
        }
        let routes = match context.activated.one_connection() {
            Some(connection) => vec![self.route_of(&connection)?],
            None => self.into_checked_routes()?,
        };
        routes.iter().try_for_each(|route| context.activated.check_one(&route.name))?;
        let listeners = routes.iter().map(|route| context.activated.one(&route.name)).collect::<Result<Vec<_>, _>>()?;
        listeners.iter().for_each(ActivatedListener::note_route);
        let complete = |(route, listener): (NamedRoute, _)| (route.route, route.options.over(&limits), listener);
        let routes = routes.into_iter().zip(listeners).map(complete).collect();
        Ok((context, routes))
    }

    pub(super) fn context(&self) -> ServerContext {
        ServerContext { activated: self.activated.clone(), drain: self.drain.clone(), stats: self.stats.clone() }
    }

    /// Checks the routes and limits, which need no socket.
    ///
    /// # Errors
    ///
    /// There is no route, there are two of one name, or no connection may be open.
    pub(super) fn check_routes(&self) -> Result<(), Error> {
        if self.routes.is_empty() {
            return Err(Kind::NoRoute.into());
        }
        if self.limits.max_connections == Some(0) || self.routes.iter().any(|route| route.options.lets_none_in()) {
            return Err(Kind::NoConnections.into());
        }
        let names = self.route_names();
        match (1..names.len()).find(|i| names[..*i].contains(&names[*i])) {
            Some(i) => Err(Kind::TwoRoutes { name: names[i].clone() }.into()),
            None => Ok(()),
        }
    }

    /// The route that serves the connection of `Accept=yes`: that of its name, or the only one.
    fn route_of(mut self, connection: &ActivatedSocket) -> Result<NamedRoute, Error> {
        let named = self.routes.iter().position(|route| route.name == connection.name());
        match named.or((self.routes.len() == 1).then_some(0)) {
            Some(i) => Ok(self.routes.swap_remove(i)),
            None => {
                let name = connection.name().to_owned();
                Err(Kind::AmbiguousConnection { name, routes: self.route_names() }.into())
            }
        }
    }

    pub(super) fn into_checked_routes(self) -> Result<Vec<NamedRoute>, Error> {
        if !self.allow_unserved {
            self.check_unserved()?;
        }
        Ok(self.routes)
    }

    fn check_unserved(&self) -> Result<(), Error> {
        let served = |socket: &ActivatedSocket| self.routes.iter().any(|route| route.name == socket.name());
        let waits = |socket: &ActivatedSocket| socket.is_passed() && !socket.is_taken() && socket.is_listening();
        match self.activated.iter().find(|socket| waits(socket) && !served(socket)) {
            None => Ok(()),
            Some(socket) => Err(Kind::Unserved {
                name: socket.name().to_owned(),
                address: socket.place(),
                routes: self.route_names(),
            }
            .into()),
        }
    }

    pub(super) fn route_names(&self) -> Vec<String> {
        self.routes.iter().map(|route| route.name.clone()).collect()
    }
}
