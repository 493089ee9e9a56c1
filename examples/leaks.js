// Watches a guest whose kernel bounces an accepted channel's data, and asks for the history of the first byte.
// Run after `npm run build`: node examples/leaks.js
import { Direction } from "coco-dma";
import { historyOf, historyText, LeakMonitor } from "coco-dma/audit";
import { Guest } from "coco-dma/guest";

const guest = await Guest.create({
	platform: "snp",
	kernel: "linux-6.12",
	ram: "8M",
	swiotlb: "512,1",
	build: "engine.audit",
});
const monitor = new LeakMonitor(guest);
const storvsc = guest.addDevice({
	name: "storvsc",
	offer: {
		flags: { coRingBuffer: true, coExternalMemory: true },
		connection: { confidential: true, version: 0x00060000 },
	},
});

const page = guest.pages.alloc(1);
guest.engine.ram.write(page, new Uint8Array(4096).fill(0x42));
const dma = storvsc.map(page, 4096, Direction.ToDevice);
storvsc.unmap(dma, 4096, Direction.ToDevice);
monitor.end();

for (const { property, findings, bytes } of monitor.report())
	for (const { kind, first } of findings) console.log(`${property.name}: ${kind}, ${bytes} bytes: ${first.text}`);
const [{ first }] = monitor.findings;
for (const line of historyText(historyOf(guest.engine.audit, first.gpa), () => storvsc.name)) console.log(line);
