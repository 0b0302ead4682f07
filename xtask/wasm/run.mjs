// Runs every scenario of callboard-core-conformance as WebAssembly, under plain Node.
//
//   cargo build -p callboard-core-conformance --target wasm32-unknown-unknown
//   node xtask/wasm/run.mjs [--target-dir DIR] [MODULE.wasm]
//
// Without MODULE.wasm it takes the debug build under --target-dir, $CARGO_TARGET_DIR or `target`. Each scenario
// is an exported function without arguments, which traps when its promise is broken. Each gets a fresh
// instance, because a trap leaves the module's memory as it was. The last line is `N passed, N failed`;
// the exit code is 1 if anything failed or nothing ran.

import { readFile } from "node:fs/promises";
import { join } from "node:path";

const MODULE = join("wasm32-unknown-unknown", "debug", "callboard_core_conformance.wasm");

function modulePath(args) {
  let targetDir = process.env.CARGO_TARGET_DIR ?? "target";
  let path;
  for (let index = 0; index < args.length; index += 1) {
    if (args[index] === "--target-dir") targetDir = args[(index += 1)];
    else path = args[index];
  }
  return path ?? join(targetDir, MODULE);
}

function panicMessage({ memory, callboard_panic_pointer, callboard_panic_bytes }) {
  const bytes = new Uint8Array(memory.buffer, callboard_panic_pointer() >>> 0, callboard_panic_bytes() >>> 0);
  return new TextDecoder().decode(bytes);
}

async function passes(module, name) {
  const { exports } = await WebAssembly.instantiate(module, {});
  const began = performance.now();
  try {
    exports[name]();
  } catch (trap) {
    console.log(`FAILED ${name}`);
    console.log(`       ${panicMessage(exports) || trap}`.replaceAll("\n", "\n       "));
    return false;
  }
  console.log(`ok     ${name} (${Math.round(performance.now() - began)} ms)`);
  return true;
}

const path = modulePath(process.argv.slice(2));
const module = await WebAssembly.compile(await readFile(path));
// A module that needs something of its host would not be pure.
const imports = WebAssembly.Module.imports(module).map(({ module, name }) => `${module}.${name}`);
if (imports.length > 0) throw new Error(`${path} imports ${imports.join(", ")}`);

const scenarios = WebAssembly.Module.exports(module)
  .filter(({ name, kind }) => kind === "function" && !name.startsWith("callboard_") && !name.startsWith("__"))
  .map(({ name }) => name);
let passed = 0;
for (const name of scenarios) {
  if (await passes(module, name)) passed += 1;
}
const failed = scenarios.length - passed;
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
console.log(`${passed} passed, ${failed} failed`);
