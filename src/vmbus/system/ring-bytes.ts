/** The bytes of a packet as they stand in a ring. */
import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import type { Engine } from "../../engine.ts";
import type { RingMemory } from "../guest/channel.ts";

/** @returns what takes the bytes written to the guest's outgoing ring between this call and its own */
export function sentPacket(engine: Engine, { gpa, sendPages }: RingMemory): () => Uint8Array {
	const data = gpa + PAGE_SIZE;
	const size = (sendPages - 1) * PAGE_SIZE;
	const writeIndex = () => {
		const header = engine.ram.view(gpa, 4);
		return new DataView(header.buffer, header.byteOffset).getUint32(0, true) % size;
	};
	const start = writeIndex();
	return () => {
		const bytes = (writeIndex() - start + size) % size;
		const first = Math.min(bytes, size - start);
		const packet = new Uint8Array(bytes);
		packet.set(engine.ram.view(data + start, first));
		if (bytes > first) packet.set(engine.ram.view(data, bytes - first), first);
		return packet;
	};
}
