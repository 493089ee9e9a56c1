// A guest asks a device for a block, and the device answers: both ends of a VMBus channel over eight pages of RAM.
import { Engine } from "coco-dma";
import { PacketType, pageBuffers, RingPair } from "coco-dma/ring";

const engine = await Engine.create({ ram: "16M", swiotlb: null });
const pages = Array.from({ length: 8 }, (_, i) => 0x100000 + i * 4096); // what a GPADL would list
const { guest, device } = RingPair.connect(engine, { pages, downstreamPage: 4, requests: 64 });

// the guest: 4 KiB at gpa 0x200800 (two pages), and a value of its own that the completion will bring back
const buffer = pageBuffers([{ gpa: 0x200800, bytes: 4096 }]);
guest.writer.sendGpaDirect(buffer, new TextEncoder().encode("READ 7  "), { id: 0xc0ffee00000001n });

// the device: sees a small id, never the guest's value
for (const request of device.reader.packets()) {
	console.log("device: type", request.type, "id", request.id, "ranges", JSON.stringify(request.gpaRanges));
	device.writer.complete(request.id, new TextEncoder().encode("OK"));
}

const completion = guest.reader.receive();
console.log(
	"guest: completion",
	completion?.type === PacketType.Completion,
	"of",
	guest.writer.endRequest(completion.id),
);

// a peer that breaks the ring: the device closes with a name, the guest would go on
engine.ram.write(pages[0], new Uint8Array([0x0c, 0, 0, 0])); // write_index = 12
try {
	device.reader.receive();
} catch (error) {
	console.log("device:", error.message);
}
