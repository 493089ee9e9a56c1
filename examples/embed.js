// Embeds the engine into a memory that a simulator owns and grows: the simulator's guest RAM is the engine's RAM.
// Run after `npm run build`: node examples/embed.js
import { Direction, DmaError, Engine } from "coco-dma";

const MIB = 2 ** 20;

// the simulator: a memory of its own, its CPU state at the bottom, 32 MiB of guest RAM somewhere inside
const memory = new WebAssembly.Memory({ initial: 640 });
const simulator = { cpuState: new Uint8Array(memory.buffer, 0, 1024), ramPtr: 4 * MIB, ramBytes: 32 * MIB };
simulator.cpuState.fill(0xcc);

// the engine: its state goes where the simulator says, and nothing else of the memory is touched
const options = {
	ram: [
		{ gpa: 0, bytes: 16 * MIB, ptr: simulator.ramPtr },
		{ gpa: 2 ** 32, bytes: 16 * MIB, ptr: simulator.ramPtr + 16 * MIB }, // above 4 GiB
	],
	swiotlb: "2048,1", // Linux's boot option: 2048 slots of 2 KiB, one area
	memory,
};
const context = { ptr: 1 * MIB, bytes: Engine.contextBytes(options) };
const engine = await Engine.create({ ...options, context });
// the guest is confidential: a device bounces unless it is said to be trusted
const disk = engine.addDevice({ minAlignMask: 0xfff });

const buffer = 2 ** 32 + 0x1200;
engine.ram.write(buffer, new TextEncoder().encode("guest data"));
const dma = disk.map(buffer, 4096, Direction.Bidirectional);
console.log(`guest buffer 0x${buffer.toString(16)} bounced to 0x${dma.toString(16)}`);

// the simulator grows its memory while the mapping lives
memory.grow(16);

// the device model works on the bounce address, through the same engine or straight in the memory
console.log(`device reads "${new TextDecoder().decode(engine.ram.read(dma, 10))}"`);
engine.ram.write(dma, new TextEncoder().encode("disk  data"));
disk.unmap(dma, 4096, Direction.Bidirectional);
console.log(`guest reads "${new TextDecoder().decode(engine.ram.read(buffer, 10))}"`);

try {
	disk.unmap(dma, 4096, Direction.Bidirectional);
} catch (error) {
	if (error instanceof DmaError) console.log(error.message);
}
const untouched = new Uint8Array(memory.buffer, 0, 1024).every((byte) => byte === 0xcc);
console.log(`slots in use ${engine.pools[0].used}, simulator's CPU state ${untouched ? "untouched" : "damaged"}`);
