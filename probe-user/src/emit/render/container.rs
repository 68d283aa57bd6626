//! The container of a service.

use super::Renderer;
use crate::{emit::wire, fact::ContainerState};

impl Renderer<'_> {
    /// Adds what a service's engine says of its container. A process of another container keeps its own.
    pub(in crate::emit) fn add_container(&self, record: &mut wire::Record, container: &ContainerState) {
        let known = record.container.as_ref().map(|known| known.id.as_str());
        if container.id.is_empty() || known.is_some_and(|known| known != container.id) {
            return;
        }
        let (name, tag) = image(&container.image);
        let labels = container.labels.iter();
        record.container = Some(wire::Container {
            id: self.foreign_name(&container.id),
            name: Some(self.foreign_name(&container.name)),
            runtime: Some(container.engine.as_str().to_owned()),
            image: (!name.is_empty()).then(|| wire::ContainerImage {
                name: self.foreign_name(name),
                tag: tag.map(|tag| self.foreign_name(tag)).into_iter().collect(),
            }),
            labels: labels.map(|(name, value)| (self.foreign_name(name), self.foreign_name(value))).collect(),
            exit_code: container.exit_code,
            oom_killed: container.oom_killed,
            health: container.health.as_ref().map(|health| self.foreign_name(&health.status)),
        });
    }
}

/// The name and the tag of an image. A port of a registry is no tag, and a digest is a part of the name.
fn image(image: &str) -> (&str, Option<&str>) {
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') && !name.contains('@') => (name, Some(tag)),
        _ => (image, None),
    }
}

#[cfg(test)]
mod tests {
    use super::image;

    #[test]
    fn the_tag_of_an_image_is_no_port_and_no_digest() {
        assert_eq!(image("nginx:1.27"), ("nginx", Some("1.27")));
        assert_eq!(image("nginx"), ("nginx", None));
        assert_eq!(image("registry.example:5000/shop/api"), ("registry.example:5000/shop/api", None));
        assert_eq!(image("registry.example:5000/api:2"), ("registry.example:5000/api", Some("2")));
        assert_eq!(image("nginx@sha256:00ff"), ("nginx@sha256:00ff", None));
    }
}
