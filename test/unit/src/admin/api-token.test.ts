import { chmodSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadApiToken } from '../../../../src/admin/api-token.ts';
import { systemRandom } from '../../../../src/platform/random.ts';
import { createTempDir, type TempDir } from '../../../support/temp-dir.ts';

let data: TempDir;
beforeEach(() => {
  data = createTempDir('token');
});
afterEach(() => data.remove());

describe('API token', () => {
  it('is made once, long, and readable by the owner only', async () => {
    const token = await loadApiToken(data.path, systemRandom);
    expect(token).toMatch(/^[0-9a-z]{40}$/);
    expect(await loadApiToken(data.path, systemRandom)).toBe(token);
    expect(statSync(data.file('secrets', 'api-token')).mode & 0o777).toBe(0o600);
    expect(statSync(data.file('secrets')).mode & 0o777).toBe(0o700);
    expect(readFileSync(data.file('secrets', 'api-token'), 'utf8')).toBe(`${token}\n`);
  });

  it('takes back what others may do with it', async () => {
    const token = await loadApiToken(data.path, systemRandom);
    chmodSync(data.file('secrets', 'api-token'), 0o644);
    expect(await loadApiToken(data.path, systemRandom)).toBe(token);
    expect(statSync(data.file('secrets', 'api-token')).mode & 0o777).toBe(0o600);
  });

  it('is never empty', async () => {
    data.directory('secrets');
    writeFileSync(data.file('secrets', 'api-token'), '\n');
    expect(await loadApiToken(data.path, systemRandom)).toMatch(/^[0-9a-z]{40}$/);
  });

  it('says what cannot be read or made, and where', async () => {
    writeFileSync(data.file('secrets'), 'a file in the place of the directory');
    await expect(loadApiToken(data.path, systemRandom)).rejects.toMatchObject({
      code: 'GW_DATA_DIRECTORY',
      message: expect.stringContaining(data.file('secrets', 'api-token')),
    });
  });
});
