/**
 * A device that becomes trusted, and stops being: run with `node examples/trust.js`.
 * A confidential guest under the rules merged for Linux 7.3, on AMD SEV-SNP.
 */
import { Direction, PageState } from "coco-dma";
import { Guest, loadCipher, tdispStateName } from "coco-dma/guest";

const guest = await Guest.create({
	platform: "snp",
	kernel: "linux-7.3",
	ram: "256M",
	cipher: await loadCipher(), // the host's view of private pages is then real AES-XTS ciphertext
	pools: [{ kind: "restricted", name: "secret-hiding", size: "4M" }],
});

const disk = guest.addDevice({
	name: "nvme0",
	minAlignMask: 0xfff,
	tdisp: {
		evidence: () => ({ interfaceReport: Uint8Array.of(1, 2, 3), measurements: Uint8Array.of(4, 5, 6), digest: "c0de" }),
		policy: ({ digest }) => (digest === "c0de" ? { accept: true } : { accept: false, reason: "unknown firmware" }),
	},
});

const text = (bytes) => JSON.stringify(String.fromCharCode(...bytes));
const gpa = guest.pages.alloc(1);
guest.parties.guest.write(gpa, new TextEncoder().encode("customer record"));

function transfer(title) {
	const dma = disk.map(gpa, 4096, Direction.ToDevice);
	const { directMappings } = disk.dma.holds();
	console.log(`${title}: ${directMappings === 1 ? "direct" : "bounced"}, dma 0x${dma.toString(16)}`);
	console.log(`  the device reads ${text(disk.read(dma, 15))}`);
	const seen = directMappings === 1 ? gpa : dma;
	const host = guest.parties.host.read(seen, 15);
	console.log(`  the host reads ${text(host) === text(disk.read(dma, 15)) ? "the same" : "ciphertext"}`);
	disk.unmap(dma, 4096, Direction.ToDevice);
}

transfer("not accepted");
disk.trust.lock();
disk.trust.collectEvidence();
disk.trust.accept();
disk.trust.start();
transfer("accepted");

disk.bindDriver();
try {
	disk.trust.reject("a new firmware was announced");
} catch (error) {
	console.log(error.message);
}
disk.unbindDriver();
disk.trust.stop();
console.log(`stopped: ${tdispStateName(disk.trust.state)}, accepted: ${disk.accepted}`);

// a page whose conversion fails is never used again
guest.converter.failAt("host");
const page = guest.pages.alloc(1);
const { ok } = guest.converter.convert(page, 4096, PageState.Shared);
if (!ok) guest.pages.leak(page, 1);
console.log(`conversion ${ok ? "done" : "failed"}, ${guest.converter.leakedPages} page leaked`);
