// mosquitto_pub and mosquitto_sub as the leaf devices of a test.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { run } from './command.ts';
import { waitFor } from './wait.ts';

export interface MosquittoLogin {
  readonly address: string;
  readonly port: number;
  readonly username: string;
  readonly password: string;
}

/** The options of either program that say where and as whom. */
export function loginOptions({ address, port, username, password }: MosquittoLogin): string[] {
  return ['-h', address, '-p', String(port), '-u', username, '-P', password];
}

/** With QoS 1: resolves once it is acknowledged. @param options the payload, such as `-m TEXT`, and others. */
export function mosquittoPub(login: MosquittoLogin, topic: string, ...options: string[]): Promise<string> {
  return run('mosquitto_pub', [...loginOptions(login), '-q', '1', '-t', topic, ...options]);
}

/** A subscriber that prints what it gets; resolves when it has subscribed. */
export async function mosquittoSub(
  login: MosquittoLogin,
  ...options: string[]
): Promise<{ readonly child: ChildProcess; readonly ended: Promise<unknown>; readonly output: () => string }> {
  // In a pipe it would tell of its subscription only when it ends.
  const child = spawn('stdbuf', ['-oL', 'mosquitto_sub', '-d', ...loginOptions(login), '-q', '1', ...options], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const ended = once(child, 'close');
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  await waitFor(() => output.includes('SUBACK'), { what: `the subscription ${options.join(' ')}` });
  return { child, ended, output: () => output };
}
