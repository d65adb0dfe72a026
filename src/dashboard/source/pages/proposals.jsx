// Proposals: branches that wait for review, the pull or merge request of each, and what merging one would do.

import { link, useResource } from '../hooks.js';
import { Digest, Empty, Facts, Loaded, Outside, State } from '../parts.jsx';
import { Effects } from './changes.jsx';

/** Not every step of a proposal makes news: providers are asked now and then. */
const REFRESH_MS = 5000;
const aboutProposals = (one) => /^(proposal|repo|change)\./.test(one.kind);

export function useProposals() {
  return useResource('/api/status', { when: aboutProposals, every: REFRESH_MS });
}

export function Proposals() {
  const status = useProposals();
  return (
    <>
      <h1 tabIndex={-1}>Proposals</h1>
      <Loaded of={status}>
        {({ git }) =>
          git?.proposals.length ? (
            <ul class="lines card">
              {git.proposals.map((one) => (
                <li key={one.branch}>
                  <p><a href={link('proposals', one.branch)}>{one.title || one.branch}</a> <ReviewState of={one} /></p>
                  <p class="hint"><code>{one.branch}</code> <Review of={one} /></p>
                  {one.trouble && <p class="notice warn">{one.trouble}</p>}
                </li>
              ))}
            </ul>
          ) : (
            <Empty title="Nothing waits for review">
              <p>
                Changes are proposed on a branch where the operator wants that, where the remote refuses pushes, and when an agent changes
                files without a person’s word. What is merged comes back by the next pull; see <a href={link('changes')}>changes</a>.
              </p>
            </Empty>
          )
        }
      </Loaded>
    </>
  );
}

function ReviewState({ of }) {
  return <State of={of.review?.state ?? 'waiting'}>{of.review ? of.review.state : 'no request yet'}</State>;
}

function Review({ of }) {
  if (of.review) return <Outside href={of.review.url}>Request {of.review.number}</Outside>;
  return of.page && <Outside href={of.page}>Open a request by hand</Outside>;
}

export function Proposal({ id }) {
  const status = useProposals();
  const found = status.value?.git?.proposals.find((one) => one.branch === id);
  return (
    <>
      <p class="crumbs"><a href={link('proposals')}>Proposals</a></p>
      <h1 tabIndex={-1} class="wrap">{found?.title || id}</h1>
      <Loaded of={status}>
        {() =>
          found ? (
            <>
              <Facts
                of={[
                  ['State', <ReviewState of={found} />],
                  ['Branch', <code class="wrap">{found.branch}</code>],
                  ['Commit', <Digest of={found.commit} label="Copy the whole commit" />],
                  ['Request', (found.review || found.page) && <Review of={found} />],
                  ['In the way', found.trouble],
                ]}
              />
              <p class="hint">A person merges it at the provider, or with git; nothing of it is in force here before that, unless it was in force already.</p>
              {found.base ? <Effects from={found.base} to={found.commit} does="What merging it would do" changes="What it changes" /> : <p class="hint">It has nothing in common with the remote’s branch.</p>}
            </>
          ) : (
            <Empty title="This proposal does not wait any more">
              <p>It was merged, closed or deleted. See <a href={link('changes')}>what was changed</a>.</p>
            </Empty>
          )
        }
      </Loaded>
    </>
  );
}
