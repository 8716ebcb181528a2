// The process of the simulated site: a Modbus TCP server. Started by adapter.ts over an IPC channel and gone with it.

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

/** Longest request of the scale; what goes on beyond is no request. */
const REQUEST_CHARS = 64;

function serveScale(path: string, wallMs: () => number): void {
  const scale = new Scale();
  let pending = '';
  const terminal = openPseudoTerminal({
    path,
    onText(text) {
      const lines = (pending + text).split(/\r\n|\r|\n/);
      pending = (lines.pop() ?? '').slice(-REQUEST_CHARS);
      for (const line of lines) if (line !== '') terminal.write(`${scale.answer(line, wallMs())}\r\n`);
    },
    onEnd: (reason) => tell({ kind: 'no_scale', reason }, () => {}),
  });
}

function main(): void {
  const options = JSON.parse(process.argv[2] ?? '{}') as SiteOptions;
  const site = new Site(options.startWallMs);
  const bornMs = performance.now();
  const current = (): Site => {
    site.advanceTo(options.startWallMs + performance.now() - bornMs);
    return site;
  };
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
    { host: options.address, port: options.port },
  );
  if (options.scalePath !== undefined) {
    serveScale(options.scalePath, () => options.startWallMs + performance.now() - bornMs);
  }
  server.on('initialized', () => tell({ kind: 'listening' }, () => {}));
  // A client that vanishes is its own affair.
  server.on('socketError', () => {});
  server.on('serverError', (error) => {
    const code = error !== null && 'code' in error ? String(error.code) : 'EIO';
    tell({ kind: 'refused', code }, () => process.exit(1));
  });
  if (options.leaf !== undefined) void runLeaf(options.leaf);
  // The channel closes when the gateway stops us, and when it dies.
  process.on('disconnect', () => process.exit(0));
  // Ctrl-C goes to the whole group of processes; the gateway stops in order and then ends us.
  process.on('SIGINT', () => {});
}

main();
