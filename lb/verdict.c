/* SPDX-License-Identifier: BSD-3-Clause */
#include "lb/verdict.h"

const char *lb_verdict_name(unsigned verdict)
{
	static const char *const names[LB_VERDICT_N] = {
#define X(id, name, meaning) name,
		LB_VERDICTS(X)
#undef X
	};

	return verdict < LB_VERDICT_N ? names[verdict] : "?";
}

const char *lb_verdict_meaning(unsigned verdict)
{
	static const char *const meanings[LB_VERDICT_N] = {
#define X(id, name, meaning) meaning,
		LB_VERDICTS(X)
#undef X
	};

	return verdict < LB_VERDICT_N ? meanings[verdict] : "?";
}
