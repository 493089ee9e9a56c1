import { resolve } from "node:path";
import { comparePolicies } from "../node/compare-policies.ts";
import { describeEnvironment, environment } from "../node/environment.ts";
import { loadPolicy } from "../node/policy-file.ts";
import { policyHtml } from "../report/policy-html.ts";
import { policyText } from "../report/policy-text.ts";
import { DEFAULTS } from "../study/options.ts";
import { type REPLAY_OPTIONS, replayOptions } from "./replay-options.ts";
import { checkWritable, mayColor, progress, UsageError, wholeNumber, writeJson, writeOutput } from "./usage.ts";

/** Runs `coco-dma compare --policy`. @returns the exit code */
export async function comparePolicyCommand(
	traces: readonly string[],
	list: string,
	values: Partial<Record<keyof typeof REPLAY_OPTIONS | "device" | "mode" | "repeat" | "json" | "html", string>>,
): Promise<number> {
	for (const name of ["device", "mode"] as const)
		if (values[name] !== undefined) throw new UsageError(`--${name}: does not go with --policy; see --scenario`);
	const { scenario, ...options } = replayOptions(values);
	const repeat = wholeNumber("repeat", values.repeat) ?? DEFAULTS.repeat;
	if (repeat < 1 || repeat > 1000)
		throw new RangeError(`repeat: expected a whole number from 1 to 1000, not ${repeat}`);
	const policies = [...new Set(list.split(","))];
	// refused before any work is done
	for (const policy of policies) await loadPolicy(policy);
	checkWritable(values.json);
	checkWritable(values.html);
	const env = environment();
	const results = await comparePolicies(traces, policies, scenario, options, repeat, progress);
	progress("");
	const all = { policies, scenario, repeat, ...options };
	if (values.json !== undefined)
		writeJson(values.json, { command: "compare", environment: env, options: all, results });
	if (values.html !== undefined) writeOutput(values.html, policyHtml(results, env, { ...options, scenario, repeat }));
	if (values.json === "-") return 0;
	for (const trace of traces)
		process.stdout.write(
			`${policyText(
				results.filter(({ file }) => file === trace),
				mayColor(),
			)}\n\n`,
		);
	const hash = results.find(({ cost }) => cost !== null)?.cost?.engineHash;
	process.stdout.write(`${describeEnvironment(env)}${hash === undefined ? "" : `, engine ${hash}`}\n`);
	if (values.json !== undefined) process.stdout.write(`JSON: ${resolve(values.json)}\n`);
	if (values.html !== undefined) process.stdout.write(`Report: ${resolve(values.html)}\n`);
	return 0;
}
