import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { spawnSync } from 'node:child_process';

const RUN = join(import.meta.dirname, '../../../bench/run.ts');

describe('npm run bench', () => {
  it.each([
    [['nothing-of-ours'], /^There is no bench nothing-of-ours; there are .*latency.*\n$/],
    [['--fast'], /^Unknown option '--fast'.*\n$/],
    [['latency', '--record'], /^Only a run of all benches can be recorded\.\n$/],
  ])('says in a line what is wrong with %j', (args, message) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [RUN, ...args], { encoding: 'utf8' });
    expect(stderr).toMatch(message);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
  });
});
