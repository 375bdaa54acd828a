//! The messages of `schemas/keybroker.proto`, by hand: the numbers are what is on the wire.

/// Asks for a session.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct BundleRequest {
    /// Base64 of the full chain, PDH first.
    #[prost(string, tag = "1")]
    pub certificate_chain: String,
    /// The SEV policy.
    #[prost(uint32, tag = "2")]
    pub policy: u32,
}

/// A session.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct BundleResponse {
    /// Base64 of the guest owner's certificate.
    #[prost(string, tag = "1")]
    pub guest_owner_public_key: String,
    /// Base64 of the session blob.
    #[prost(string, tag = "2")]
    pub launch_blob: String,
    /// The launch's UUID.
    #[prost(string, tag = "3")]
    pub launch_id: String,
}

/// One thing that is asked for.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RequestDetails {
    /// GUID of the entry.
    #[prost(string, tag = "1")]
    pub guid: String,
    /// `binary` or `json`.
    #[prost(string, tag = "2")]
    pub format: String,
    /// `key`, `bundle`, `report`, `connection` or `resource`.
    #[prost(string, tag = "3")]
    pub secret_type: String,
    /// What is asked for.
    #[prost(string, tag = "4")]
    pub id: String,
}

/// Asks for the secrets of a launch.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SecretRequest {
    /// Base64 of the measurement.
    #[prost(string, tag = "1")]
    pub launch_measurement: String,
    /// The launch's UUID.
    #[prost(string, tag = "2")]
    pub launch_id: String,
    /// The SEV policy.
    #[prost(uint32, tag = "3")]
    pub policy: u32,
    /// The API's major version.
    #[prost(uint32, tag = "4")]
    pub api_major: u32,
    /// The API's minor version.
    #[prost(uint32, tag = "5")]
    pub api_minor: u32,
    /// The firmware's build.
    #[prost(uint32, tag = "6")]
    pub build_id: u32,
    /// Base64 of a launch digest.
    #[prost(string, tag = "7")]
    pub fw_digest: String,
    /// Free text.
    #[prost(string, tag = "8")]
    pub launch_description: String,
    /// What is asked for.
    #[prost(message, repeated, tag = "9")]
    pub secret_requests: Vec<RequestDetails>,
}

/// A packet.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SecretResponse {
    /// Base64 of the header.
    #[prost(string, tag = "1")]
    pub launch_secret_header: String,
    /// Base64 of the ciphertext.
    #[prost(string, tag = "2")]
    pub launch_secret_data: String,
}

/// Asks over a connection.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct OnlineSecretRequest {
    /// The client's id.
    #[prost(string, tag = "1")]
    pub client_id: String,
    /// What is asked for.
    #[prost(message, repeated, tag = "2")]
    pub secret_requests: Vec<RequestDetails>,
}

/// An answer over a connection.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct OnlineSecretResponse {
    /// Base64 of ciphertext and tag.
    #[prost(string, tag = "1")]
    pub payload: String,
    /// Base64 of the nonce.
    #[prost(string, tag = "2")]
    pub iv: String,
}
