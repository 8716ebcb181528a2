// A scan by the running gateway: one request whose answer is a line of JSON for each event, until the end.

import { request as send } from 'node:http';
import { createInterface } from 'node:readline';
import type { AdminApi } from '../core/admin.ts';
import { GatewayError } from '../core/errors.ts';
import type { ScanRequest } from '../core/scan.ts';
import { answeredError, connectionError } from './control-errors.ts';
import type { ScanLine } from './control-routes.ts';

type Watch = Parameters<AdminApi['scan']>[1];

/** As `AdminApi.scan`. @throws GatewayError also GW_NOT_RUNNING, GW_DISCONNECTED when the gateway ends meanwhile. */
export function scanOverSocket(socketPath: string, scan: ScanRequest, { signal, report }: Watch): Promise<void> {
  return new Promise((resolve, reject) => {
    const body = JSON.stringify(scan);
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    const outgoing = send({ socketPath, method: 'POST', path: '/v1/scan', headers, agent: false, signal });
    const fail = (error: Error): void => {
      reject(
        signal.aborted ? new GatewayError('GW_ABORTED', 'The scan was stopped.') : connectionError(socketPath, error),
      );
    };
    outgoing.on('error', fail);
    outgoing.on('response', (response) => {
      response.on('error', fail);
      const lines = createInterface({ input: response });
      lines.on('error', fail);
      lines.on('line', (text) => {
        const line = JSON.parse(text) as ScanLine | { readonly kind?: undefined };
        if (line.kind === 'end') resolve();
        else if (line.kind === 'error' || line.kind === undefined) reject(answeredError(line, text));
        else report(line);
      });
      lines.on('close', () => reject(new GatewayError('GW_DISCONNECTED', 'The gateway ended before the scan did.')));
    });
    outgoing.end(body);
  });
}
