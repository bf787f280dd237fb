//! The export as a file: one JSON object. Records stand as text, because they are JSON themselves;
//! hashes and keys are base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::{Export, ExportError, ExportedProof, MAX_EXPORT_BYTES};
use crate::merkle::Hash;

/// Format of the file.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    origin: String,
    public_key: String,
    checkpoint: String,
    leaves: Vec<String>,
    #[serde(default)]
    leaf_hashes: Vec<String>,
    #[serde(default)]
    history: Vec<String>,
    #[serde(default)]
    proofs: Vec<StoredProof>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    removed: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredProof {
    index: u64,
    path: Vec<String>,
}

impl Export {
    /// Writes the file.
    ///
    /// # Errors
    /// When a record is not UTF-8, which no record of ours is.
    pub fn to_json(&self) -> Result<Vec<u8>, ExportError> {
        let text = |(index, leaf): (usize, &Vec<u8>)| {
            let not_text = |_| ExportError::Form(format!("record {index} is not text"));
            String::from_utf8(leaf.clone()).map_err(not_text)
        };
        let proof = |proof: &ExportedProof| StoredProof {
            index: proof.index,
            path: encode(&proof.path),
        };
        let stored = Stored {
            format: FORMAT,
            origin: self.origin.clone(),
            public_key: STANDARD.encode(self.public_key),
            checkpoint: self.checkpoint.clone(),
            leaves: self
                .leaves
                .iter()
                .enumerate()
                .map(text)
                .collect::<Result<_, _>>()?,
            leaf_hashes: encode(&self.leaf_hashes),
            history: self.history.clone(),
            proofs: self.proofs.iter().map(proof).collect(),
            removed: encode(&self.removed),
        };
        serde_json::to_vec_pretty(&stored).map_err(|error| ExportError::Form(error.to_string()))
    }

    /// Reads the file.
    ///
    /// # Errors
    /// When it is too long or of another form.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ExportError> {
        if bytes.len() > MAX_EXPORT_BYTES {
            return Err(ExportError::Form(format!(
                "it has more than {MAX_EXPORT_BYTES} bytes"
            )));
        }
        let stored: Stored =
            serde_json::from_slice(bytes).map_err(|error| ExportError::Form(error.to_string()))?;
        if stored.format != FORMAT {
            return Err(ExportError::Form(format!(
                "it has format {}, this build reads {FORMAT}",
                stored.format
            )));
        }
        let proof = |proof: StoredProof| {
            decode(&proof.path).map(|path| ExportedProof {
                index: proof.index,
                path,
            })
        };
        Ok(Self {
            origin: stored.origin,
            public_key: hash(&stored.public_key)?,
            checkpoint: stored.checkpoint,
            leaves: stored.leaves.into_iter().map(String::into_bytes).collect(),
            leaf_hashes: decode(&stored.leaf_hashes)?,
            history: stored.history,
            proofs: stored
                .proofs
                .into_iter()
                .map(proof)
                .collect::<Result<_, _>>()?,
            removed: decode(&stored.removed)?,
        })
    }
}

fn encode(hashes: &[Hash]) -> Vec<String> {
    hashes.iter().map(|hash| STANDARD.encode(hash)).collect()
}

fn decode(texts: &[String]) -> Result<Vec<Hash>, ExportError> {
    texts.iter().map(|text| hash(text)).collect()
}

fn hash(text: &str) -> Result<Hash, ExportError> {
    let bytes = STANDARD
        .decode(text)
        .ok()
        .and_then(|bytes| Hash::try_from(bytes).ok());
    bytes.ok_or_else(|| ExportError::Form("a hash or key is not base64 of 32 bytes".to_owned()))
}
