import { scenarioCapture, scenarioData, scenarioText } from "../report/vmbus-system.ts";
import { SYSTEM_PLATFORMS, type SystemPlatform } from "../vmbus/system/options.ts";
import { playScenario, SYSTEM_SCENARIOS, type SystemScenario } from "../vmbus/system/scenarios.ts";
import { checkOutputs, writeJson, writeOutput } from "./outputs.ts";
import { parseOptions, UsageError } from "./usage.ts";

const HELP = `Usage: coco-dma vmbus demo --scenario NAME [options]

Runs a whole VMBus system: a guest, a host, perhaps a paravisor, with their SynICs, servers and echo devices over one RAM.
Prints each step: who sent what to whom by which path and through which SynIC, and which pages changed their state; then
which pages the host can read, and what each channel carried.

Options:
  --scenario NAME    what is run; --list tells the names
  --list             lists the scenarios
  --platform NAME    snp, tdx, vbs or none; default: the scenario's first
  --json FILE|-      also writes steps, pages and channels as JSON; "-": JSON alone on standard output
  --pcapng FILE      also writes every message, signal and packet for Wireshark (with the script of vmbus dissector)
  --help             this text
`;

function listText(): string {
	const width = Math.max(...SYSTEM_SCENARIOS.map(({ name }) => name.length));
	return SYSTEM_SCENARIOS.map(
		({ name, about, platforms }) => `  ${name.padEnd(width)}  ${about} (${platforms.join(", ")})\n`,
	).join("");
}

/** @throws UsageError */
function platformFor(scenario: SystemScenario, name: string | undefined): SystemPlatform {
	const wanted = name ?? scenario.platforms[0];
	const known = SYSTEM_PLATFORMS.find((one) => one === wanted);
	if (known !== undefined && scenario.platforms.includes(known)) return known;
	throw new UsageError(`--platform: scenario ${scenario.name} runs on ${scenario.platforms.join(", ")}, not "${name}"`);
}

/** Runs `coco-dma vmbus demo`. @returns the exit code @throws UsageError, InputError */
export async function demoCommand(args: readonly string[]): Promise<number> {
	const { values, positionals } = parseOptions(args, {
		scenario: { type: "string" },
		list: { type: "boolean" },
		platform: { type: "string" },
		json: { type: "string" },
		pcapng: { type: "string" },
		help: { type: "boolean" },
	});
	if (values.help || values.list) {
		process.stdout.write(values.help ? HELP : listText());
		return 0;
	}
	const names = SYSTEM_SCENARIOS.map(({ name }) => name).join(", ");
	if (positionals.length > 0)
		throw new UsageError(`demo: expected options only, not "${positionals[0]}" (--scenario NAME)`);
	if (values.scenario === undefined) {
		process.stdout.write(listText());
		throw new UsageError("demo: expected --scenario NAME: the names are listed above");
	}
	const scenario = SYSTEM_SCENARIOS.find(({ name }) => name === values.scenario);
	if (scenario === undefined) throw new UsageError(`--scenario: expected ${names}, not "${values.scenario}"`);
	const platform = platformFor(scenario, values.platform);
	if (values.pcapng === "-") throw new UsageError("--pcapng: expected a FILE");
	checkOutputs({ json: values.json, pcapng: values.pcapng });
	const shown = await playScenario(scenario, platform);
	if (values.json !== "-") process.stdout.write(scenarioText(shown));
	if (values.pcapng !== undefined) writeOutput(values.pcapng, scenarioCapture(shown));
	if (values.json !== undefined) writeJson(values.json, scenarioData(shown));
	return 0;
}
