// What the terminal shows once the gateway runs: where to look, and what is not as configured.

import { relative } from 'node:path';
import type { Daemon } from '../gateway/daemon.ts';
import type { GatewayFiles } from './command.ts';

export function greeting(daemon: Daemon, files: GatewayFiles, version: string): string {
  const { config } = daemon.gateway;
  const { web } = config;
  const status = daemon.admin?.status();
  const host = web.address.includes(':') ? `[${web.address}]` : web.address;
  // With the port taken by another program, the address leads to that one.
  const isDown = (part: string): boolean => status?.health.reasons.some((reason) => reason.part === part) === true;
  const lines = [
    `Fieldpost ${version} runs as ${config.gatewayId}.`,
    `  configuration   ${files.configPath}`,
    `  data            ${files.dataDirectory}`,
    ...(web.enabled && !isDown('web') ? [`  open            http://${host}:${web.port}/`] : []),
    ...(config.hub === undefined ? [] : hubLines(files)),
    ...(status?.endpoints ?? []).map(({ name, hint, target }) =>
      hint === undefined || isDown(`endpoint ${name}`) ? `  delivers to     ${target}` : `  watch           ${hint}`,
    ),
    '  stop            Ctrl+C',
  ];
  const troubles = (status?.health.reasons ?? [])
    .filter((reason) => reason.status === 'failed' || reason.status === 'degraded')
    .map(({ part, reason }) => `  ! ${part}: ${reason ?? 'degraded'}`);
  return `\n${[...lines, ...troubles].join('\n')}\n\n`;
}

/** How to get at the local hub, from another terminal in the same folder. */
function hubLines({ dataDirectory }: GatewayFiles): readonly string[] {
  const data = relative(process.cwd(), dataDirectory);
  const where = data === 'data' ? '' : ` --data ${data.startsWith('..') ? dataDirectory : data}`;
  return [
    `  watch           npx fieldpost hub monitor-events${where}`,
    `  connect         npx fieldpost hub connection-string${where}`,
    `  trust           ${dataDirectory}/pki/ca.pem (for the SDKs: NODE_EXTRA_CA_CERTS)`,
  ];
}
