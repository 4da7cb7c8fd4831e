//! The lab: a plant, the box, a VPC and a public internet as network namespaces.
