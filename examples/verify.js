// Replays what a kernel answered, call by call, and says where the first answer differs.
// Run after `npm run build`: node examples/verify.js
import { InputError, verifyRecording } from "coco-dma/verify";

// the first calls of Linux 6.12 booting on a machine with one NVMe disk, and the pool's state after them
const recording = `\
# kernel=6.12.117 pool_start=0x22c00000 nslabs=32768 nareas=1 area_nslabs=32768 devices: nvme0 min_align_mask=0xfff seg_boundary=0xffffffff
map 0 0 nvme0 0x4f1c000 4096 0x0 2 -> 0x22c00000
unmap 1 0 nvme0 0x22c00000 4096 2
map 2 0 nvme0 0x8424000 4096 0x0 2 -> 0x22c01000
unmap 3 0 nvme0 0x22c01000 4096 2
map 4 0 nvme0 0x813e000 8 0x0 1 -> 0x22c02000
unmap 5 0 nvme0 0x22c02000 8 1
map 6 0 nvme0 0x8130200 512 0x0 1 -> 0x22c03200
unmap 7 0 nvme0 0x22c03200 512 1
# end: io_tlb_used=0 io_tlb_used_hiwater=2 io_tlb_nslabs=32768
# end_state: total_used=0 used_hiwater=2 area0.used=0 area0.index=7
`;

const { identical, compared } = await verifyRecording(recording, { name: "boot" });
console.log(`identical: ${identical}, compared: ${JSON.stringify(compared)}`);

// the same, had the kernel not kept the low bits of the original's address
const other = recording.replaceAll("0x22c03200", "0x22c03000");
const { divergence, summary } = await verifyRecording(other, { name: "other" });
console.log(summary);
console.log(`line ${divergence.line}: expected ${divergence.expected}, got ${divergence.got}`);

// what is no recording, or breaks its own format, is told in one line
for (const text of ["hello", recording.replace("map 2 0", "map 2 zero")]) {
	try {
		await verifyRecording(text, { name: "boot" });
	} catch (error) {
		if (error instanceof InputError) console.log(error.message);
	}
}
