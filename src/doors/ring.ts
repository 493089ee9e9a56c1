/** `coco-dma/ring`: VMBus rings over an engine's RAM, from both ends. */
export { Doorbell } from "../ring/doorbell.ts";
export {
	type GpaRange,
	multiPageRange,
	type Packet,
	PacketType,
	type Piece,
	pageArray,
	pageBuffers,
	type TransferRange,
} from "../ring/packet.ts";
export { RingPair, type RingPairHandle, type RingPairOptions } from "../ring/pair.ts";
export type { RingReader } from "../ring/reader.ts";
export type { RingWriter, SendOptions } from "../ring/writer.ts";
