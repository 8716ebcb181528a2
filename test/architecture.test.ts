// The import rules of the design, section 3, hold, and the tool really looked: a cruise that examined no file reports
// success as well, so the counts are asserted first.

import { readFileSync, readdirSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { cruise, type ICruiseOptions, type ICruiseResult } from 'dependency-cruiser';
import { describe, expect, it } from 'vitest';

const ROOT = join(import.meta.dirname, '..');

function sourceFiles(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((path) => /\.(ts|tsx)$/.test(path) && !path.includes('node_modules'))
    .map((path) => join(folder, path));
}

const rules = createRequire(import.meta.url)('../.dependency-cruiser.cjs') as {
  forbidden: ICruiseOptions['ruleSet'] extends infer _ ? unknown[] : never;
  options: ICruiseOptions;
};

async function examine(paths: string[]): Promise<ICruiseResult> {
  const reporter = await cruise(
    paths,
    { ...rules.options, baseDir: ROOT, validate: true, ruleSet: { forbidden: rules.forbidden } } as ICruiseOptions,
    undefined,
    { tsConfig: undefined },
  );
  return reporter.output as ICruiseResult;
}

describe('architecture', () => {
  it('imports run one way, and every file was examined', async () => {
    const result = await examine(['src', 'modules']);
    const examined = result.modules
      .map((module) => module.source)
      .filter((path) => /^(src|modules)\/.*\.tsx?$/.test(path));
    const present = [...sourceFiles('src'), ...sourceFiles('modules')];
    expect(present.length).toBeGreaterThanOrEqual(60);
    expect(new Set(examined)).toEqual(new Set(present));
    // Type-only imports count too: without them the rules would see half of the graph.
    const dependencies = result.modules.flatMap((module) => module.dependencies.map(({ resolved }) => resolved));
    expect(dependencies.filter((path) => path.startsWith('src/core/')).length).toBeGreaterThan(60);
    expect(dependencies).toContain('src/sdk/index.ts');
    expect(result.summary.violations.map(({ rule, from, to }) => `${rule.name}: ${from} -> ${to}`)).toEqual([]);
  }, 120_000);

  it('keeps files below 500 lines', () => {
    const long = [...sourceFiles('src'), ...sourceFiles('modules')]
      .map((path) => ({ path, lines: readFileSync(join(ROOT, path), 'utf8').split('\n').length - 1 }))
      .filter(({ lines }) => lines > 500);
    expect(long).toEqual([]);
  });

  it('takes time and chance from platform only', () => {
    const offenders: string[] = [];
    for (const path of [...sourceFiles('src'), ...sourceFiles('modules')]) {
      if (path.startsWith(join('src', 'platform')) || path.includes(join('web', 'client'))) continue;
      readFileSync(join(ROOT, path), 'utf8')
        .split('\n')
        .forEach((line, index) => {
          const code = line.replace(/\/\/.*$|^\s*\*.*$/, '');
          if (/(?<![.\w])(setTimeout|setInterval)\(|\bDate\.now\(|\bMath\.random\(/.test(code)) {
            offenders.push(`${path}:${index + 1}`);
          }
        });
    }
    expect(offenders).toEqual([]);
  });

  it('takes lazily loaded packages by their default export, all that a bundle gives of a CommonJS package', () => {
    const lazy = [...sourceFiles('src'), ...sourceFiles('modules')].flatMap((path) =>
      readFileSync(join(ROOT, path), 'utf8')
        .split('\n')
        .filter((line) => /await import\('[^.]/.test(line) && !line.includes("'systeminformation'"))
        .map((line) => `${path}: ${line.trim()}`),
    );
    expect(lazy.length).toBeGreaterThanOrEqual(3);
    expect(lazy.filter((line) => !/const \{ default: \w+ \} = await import\(/.test(line))).toEqual([]);
  });

  it('gives every module its parts', () => {
    const folders = readdirSync(join(ROOT, 'modules')).filter((name) =>
      statSync(join(ROOT, 'modules', name)).isDirectory(),
    );
    expect(folders.length).toBeGreaterThanOrEqual(4);
    for (const folder of folders) {
      const files = readdirSync(join(ROOT, 'modules', folder));
      // The settings of the hub's heads stand under `hub:`, which is the gateway's own.
      const own = folder.startsWith('hub-') ? ['head.ts'] : ['config.ts', 'sample.yaml'];
      expect(files, `modules/${folder}`).toEqual(expect.arrayContaining(['index.ts', 'README.md', ...own]));
    }
  });
});
