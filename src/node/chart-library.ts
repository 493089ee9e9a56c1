/** The chart library of the HTML reports, as it was published. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { ChartLibrary } from "../report/render/html.ts";

export function chartLibrary(): ChartLibrary {
	const { resolve } = createRequire(import.meta.url);
	const read = (file: string) => readFileSync(resolve(`uplot/dist/${file}`), "utf8");
	return { script: read("uPlot.iife.min.js"), style: read("uPlot.min.css") };
}
