// Ids by order, not by path: the same sources build the same files wherever they lie.
module.exports = { optimization: { moduleIds: 'natural', chunkIds: 'natural' } };
