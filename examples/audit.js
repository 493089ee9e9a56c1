/**
 * What the host can read, to the byte, and how it came there: run with `node examples/audit.js`.
 * A confidential guest whose disk is not accepted, in the build that keeps a label for each byte.
 */
import { Direction } from "coco-dma";
import { Guest } from "coco-dma/guest";

const guest = await Guest.create({ platform: "snp", ram: "64M", swiotlb: "1024", build: "engine.audit" });
const { audit, ram } = guest.engine;
const disk = guest.addDevice({ name: "vdisk" });
const keys = audit.label({ owner: -1, isPrivate: true, secret: true, accepted: false });

const page = guest.pages.alloc(1);
audit.nowNs = 100;
audit.pen = keys; // what the guest writes now is known by this label
ram.write(page, new TextEncoder().encode("a key of 24 bytes, or so"));
audit.pen = null;

// the disk is to fill the page: Linux copies it into slots first, the key with it
audit.nowNs = 200;
const dma = disk.map(page, 512, Direction.FromDevice);
disk.write(dma, new TextEncoder().encode("block"));
console.log(`the host reads "${new TextDecoder().decode(guest.parties.host.read(dma, 24))}"`);

const from = (label) => (label === null ? "nothing known" : label.isPrivate ? "private" : `device ${label.owner}`);
for (const { gpa, bytes, label } of audit.runs())
	console.log(
		`0x${gpa.toString(16)}: ${bytes} bytes, ${from(label)}, page ${ram.pageState(gpa) === 0 ? "shared" : "private"}`,
	);

audit.nowNs = 300;
disk.unmap(dma, 512, Direction.FromDevice);
const { sharedBytes, initialBytes } = audit.totals(keys);
console.log(
	`bytes of the key on shared pages: ${sharedBytes}, by the first copy of a FROM_DEVICE mapping: ${initialBytes}`,
);
console.log(
	`in a slot that is free since ${audit.freedAtNs(dma)} ns: ${audit.labelsAt(dma, 512).filter((one) => one === keys.number).length}`,
);

for (const { kind, mapping, timeNs, bytes, sharedBytes: shown } of audit.events().filter((one) => one.mapping === 1))
	console.log(
		`${timeNs} ns: ${kind} of ${bytes} bytes, mapping ${mapping}${shown > 0 ? `, ${shown} private ones to shared pages` : ""}`,
	);
