/** The soak of rings for as long as one likes: `node build/bench/soak.js [MESSAGES [SEED]]`. */
import { soak } from "./ring-soak.ts";

async function main(args: readonly string[]): Promise<void> {
	const messages = Number(args[0] ?? 10_000_000);
	const seed = Number(args[1] ?? Date.now() % 1_000_000_000);
	console.log(`soak: ${messages} messages, seed ${seed}`);
	for (const [pages, async, share] of [
		[2, false, 0.45],
		[17, false, 0.45],
		[5, true, 0.1],
	] as const) {
		const { sleeps, signals, seconds } = await soak(Math.round(messages * share), seed, pages, async);
		const how = async ? "Atomics.waitAsync" : "Atomics.wait";
		console.log(
			`${Math.round(messages * share)} messages over ${pages} pages, ${how}: all in order with their content, ${sleeps} sleeps, ${signals} signals, ${seconds.toFixed(1)} s`,
		);
	}
}

await main(process.argv.slice(2));
