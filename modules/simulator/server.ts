// The process of the simulated site: a Modbus TCP server, a scale and an MQTT device, each on its own. Started by adapter.ts over an IPC channel and gone with it.

import { setTimeout as sleep } from 'node:timers/promises';
import { ServerTCP } from 'modbus-serial';
import { runLeaf } from './leaf.ts';
import type { SiteOptions, SiteReport } from './protocol.ts';
import { openPseudoTerminal } from './pseudo-terminal.ts';
import { Scale } from './scale.ts';
import { Site } from './site.ts';

function tell(report: SiteReport, then: () => void): void {
  if (process.send === undefined) then();
  else process.send(report, then);
}

/** Pause before a port that was taken is tried again. */
const LISTEN_AGAIN_MS = 2000;
/** Pause before the terminal of the scale is made again. */
const SCALE_AGAIN_MS = 1000;
/** Longest request of the scale; what goes on beyond is no request. */
const REQUEST_CHARS = 64;

/** Makes its terminal again for ever, whatever ends it; the scale itself stays as it is. */
async function serveScale(path: string, wallMs: () => number): Promise<void> {
  const scale = new Scale();
  for (;;) {
    const reason = await new Promise<string>((resolve) => {
      let pending = '';
      const terminal = openPseudoTerminal({
        path,
        onText(text) {
          const lines = (pending + text).split(/\r\n|\r|\n/);
          pending = (lines.pop() ?? '').slice(-REQUEST_CHARS);
          for (const line of lines) if (line !== '') terminal.write(`${scale.answer(line, wallMs())}\r\n`);
        },
        onOpen: () => tell({ kind: 'scale' }, () => {}),
        onEnd: resolve,
      });
    });
    tell({ kind: 'no_scale', reason }, () => {});
    await sleep(SCALE_AGAIN_MS);
  }
}

/** Tries again for ever: the scale and the MQTT device live although the port belongs to another program. */
async function serveModbus({ address, port }: SiteOptions, current: () => Site): Promise<void> {
  for (;;) {
    const code = await listen({ address, port }, current);
    tell({ kind: 'refused', code }, () => {});
    await sleep(LISTEN_AGAIN_MS);
  }
}

/** Resolves with the system's code when the server cannot listen, or does no more. */
function listen({ address, port }: Pick<SiteOptions, 'address' | 'port'>, current: () => Site): Promise<string> {
  const server = new ServerTCP(
    {
      getCoil: (address: number, unit: number) => current().readBit(unit, 'coil', address),
      getDiscreteInput: (address: number, unit: number) => current().readBit(unit, 'discrete', address),
      getInputRegister: (address: number, unit: number) => current().readRegisters(unit, 'input', address, 1)[0] ?? 0,
      getHoldingRegister: (address: number, unit: number) =>
        current().readRegisters(unit, 'holding', address, 1)[0] ?? 0,
      getMultipleInputRegisters: (address: number, quantity: number, unit: number) =>
        current().readRegisters(unit, 'input', address, quantity),
      getMultipleHoldingRegisters: (address: number, quantity: number, unit: number) =>
        current().readRegisters(unit, 'holding', address, quantity),
      setCoil: (address: number, state: boolean, unit: number) => current().writeCoil(unit, address, state),
      setRegister: (address: number, value: number, unit: number) => current().writeRegister(unit, address, value),
    },
    { host: address, port },
  );
  server.on('initialized', () => tell({ kind: 'listening' }, () => {}));
  // A client that vanishes is its own affair.
  server.on('socketError', () => {});
  return new Promise((resolve) => {
    server.on('serverError', (error) => resolve(error !== null && 'code' in error ? String(error.code) : 'EIO'));
  });
}

function main(): void {
  const options = JSON.parse(process.argv[2] ?? '{}') as SiteOptions;
  const bornMs = performance.now();
  const wallMs = (): number => options.startWallMs + performance.now() - bornMs;
  const site = new Site(options.startWallMs);
  const current = (): Site => {
    site.advanceTo(wallMs());
    return site;
  };
  if (options.scalePath !== undefined) void serveScale(options.scalePath, wallMs);
  if (options.leaf !== undefined) void runLeaf(options.leaf);
  void serveModbus(options, current);
  // The channel closes when the gateway stops us, and when it dies.
  process.on('disconnect', () => process.exit(0));
  // Ctrl-C goes to the whole group of processes; the gateway stops in order and then ends us.
  process.on('SIGINT', () => {});
}

main();
